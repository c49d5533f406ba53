"""Training and prediction loops, and what every run needs around them."""

import runtime  # noqa: F401  (before any import of jittor)
