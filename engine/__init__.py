"""Training and prediction loops, and what every run needs around them: session, lock, log."""

import runtime  # noqa: F401  (before any import of jittor)
