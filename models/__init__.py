"""Everything that is trained on top of CLIP: arrays in, arrays out; no module here opens a file.

Shapes in all of its modules: B images, P views, C classes, S sentences, L tokens, D width,
E embedding, Q entries of a queue. Classifiers also write N rows of features and K classes seen.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

import runtime  # noqa: F401  (prepares Jittor before its first import)

if TYPE_CHECKING:
    from models.heads.channel_reweighting import ChannelReweighting
    from models.heads.gda import GaussianDiscriminant
    from models.heads.lpplusplus import LPPlusPlus

__all__ = ["ChannelReweighting", "GaussianDiscriminant", "LPPlusPlus"]
MODULES = {
    "ChannelReweighting": "models.heads.channel_reweighting",
    "GaussianDiscriminant": "models.heads.gda",
    "LPPlusPlus": "models.heads.lpplusplus",
}


def __getattr__(name: str) -> Any:
    """Imports a head on first use: a backbone needs neither SciPy nor scikit-learn."""
    if name in MODULES:
        return getattr(import_module(MODULES[name]), name)
    raise AttributeError(f"module 'models' has no attribute {name!r}")
