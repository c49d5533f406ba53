"""What is trained on top of CLIP."""

import runtime  # noqa: F401  (before any import of jittor)
