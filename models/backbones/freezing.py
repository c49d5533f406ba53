"""Freezes the parts of a network that are not trained.

Three habits of Jittor would train them all the same, and are handled here. Running statistics count
as parameters. Batch norm updates them although its weights are frozen. `eval()` followed by
`train()` restores the gradients that were on before.
"""

import re

import jittor as jt

from models.backbones.layers import is_running_statistic
from models.backbones.networks import Network


def set_trainable(module: Network, policy: str) -> tuple[list[jt.Var], list[jt.Var]]:
    """Freezes all that `policy` does not name. Returns the body's and the classifier's parameters.

    Policies: `all`; `head`, the classifier alone; `layer4` or `layer3+layer4` (ResNet);
    `last 6 blocks` (a ViT's blocks and last norm; an EfficientNet's stages, where the first and the
    last convolution count as stages). The classifier is always trained. Frozen parts behave as in
    evaluation, also after `train()`: no gradient, no update of batch norm's statistics, no dropped
    path. It may be called again with another policy. Call it before a larger module that contains
    this one is put into evaluation mode. Raises ValueError for a policy that the network lacks.
    """
    trained = (*_body(module, policy), *module.head_names)

    def is_trained(name: str) -> bool:
        return any(part == "" or name == part or name.startswith(f"{part}.") for part in trained)

    body: list[jt.Var] = []
    head: list[jt.Var] = []
    learns_by_id: dict[int, bool] = {}
    for name, parameter in module.named_parameters():
        learns = is_trained(name) and not is_running_statistic(name)
        learns_by_id[id(parameter)] = learns
        if not learns:
            parameter.stop_grad()
            continue
        parameter.start_grad()
        (head if name.split(".")[0] in module.head_names else body).append(parameter)
    for name, part in module.named_modules():
        if hasattr(part, "frozen"):
            part.frozen = not is_trained(name)
        backup = part.__dict__.get("backup_grad_state", {})  # what train() restores
        backup.update({key: learns_by_id[key] for key in backup if key in learns_by_id})
    return body, head


def _body(module: Network, policy: str) -> tuple[str, ...]:
    """Returns the beginnings of the names that the policy trains next to the classifier."""
    if policy == "all":
        return ("",)
    if policy == "head":
        return ()
    count = re.fullmatch(r"last (\d+) blocks?", policy)
    if count and 1 <= int(count[1]) <= len(module.block_names):
        return (*module.block_names[-int(count[1]) :], *module.last_names)
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
