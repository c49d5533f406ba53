"""The contest method: few-shot CLIP with new classes."""

import runtime  # noqa: F401  (before any import of jittor)
