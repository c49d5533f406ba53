"""Everything around the networks: data, features, loops, results."""

import runtime  # noqa: F401  (before any import of jittor)
