"""C++ and CUDA operators with their Python faces."""

import runtime  # noqa: F401  (before any import of jittor)
