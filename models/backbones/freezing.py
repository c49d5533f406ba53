"""Which parts of a network are trained: policies by name, and parts that stay as they are.

Jittor leaves three ways back in, all of them shut here: running statistics count as parameters,
batch norm updates them although its weights are frozen, and `eval()` then `train()` wakes up what
was awake before.
"""

import re

import jittor as jt

from models.backbones.layers import is_running
from models.backbones.networks import Network


def trainable(module: Network, policy: str) -> tuple[list[jt.Var], list[jt.Var]]:
    """Freezes all that `policy` does not name; returns (body's, classifier's) parameters to train.

    Policies: `all`; `head`, the classifier alone; `layer4`, `layer3+layer4` and the like (ResNet);
    `last 6 blocks` (a ViT's blocks and last norm, an EfficientNet's stages, of which its first and
    last convolution are two). The classifier is always trained. What is frozen behaves as in
    evaluation, also after `train()`: no gradient, the statistics of batch norm stay, no path is
    dropped. Another policy may follow later. Call it before a larger module that holds this one
    is put into evaluation. Raises ValueError for a policy that the network lacks.
    """
    trained = (*_body(module, policy), *module.head_names)

    def is_trained(name: str) -> bool:
        return any(part == "" or name == part or name.startswith(f"{part}.") for part in trained)

    body: list[jt.Var] = []
    head: list[jt.Var] = []
    wanted: dict[int, bool] = {}
    for name, parameter in module.named_parameters():
        learns = is_trained(name) and not is_running(name)
        wanted[id(parameter)] = learns
        parameter.start_grad() if learns else parameter.stop_grad()
        if learns:
            (head if name.split(".")[0] in module.head_names else body).append(parameter)
    for name, part in module.named_modules():
        if hasattr(part, "frozen"):
            part.frozen = not is_trained(name)
        remembered = part.__dict__.get("backup_grad_state", {})  # what train() will wake up
        remembered.update({key: wanted[key] for key in remembered if key in wanted})
    return body, head


def _body(module: Network, policy: str) -> tuple[str, ...]:
    """First parts of the names of what the policy trains beside the classifier."""
    if policy == "all":
        return ("",)
    if policy == "head":
        return ()
    counted = re.fullmatch(r"last (\d+) blocks?", policy)
    if counted and 1 <= int(counted[1]) <= len(module.block_names):
        return (*module.block_names[-int(counted[1]) :], *module.last_names)
    layers = tuple(policy.split("+"))
    if set(layers) <= set(module.layer_names):
        return layers
    known = ["all", "head"]
    if module.layer_names:
        known.append(f"{' or '.join(module.layer_names)} (several joined by +)")
    if module.block_names:
        known.append(f"last 1 to {len(module.block_names)} blocks")
    kind = type(module).__name__
    raise ValueError(f"{kind} cannot be unfrozen by {policy!r}; policies: {', '.join(known)}")
