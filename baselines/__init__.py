"""The ported baseline projects: data sets, transforms, training."""

import runtime  # noqa: F401  (before any import of jittor)
