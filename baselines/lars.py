"""LARS: SGD with momentum whose step is scaled to the size of each weight.

Source: You et al. 2017 (https://arxiv.org/abs/1708.03888), as SimCLR and MoCo v3 use it.
"""

import jittor as jt


class Lars(jt.optim.Optimizer):
    """With g' = g + weight_decay w: v = momentum v + trust |w| / |g'| g', w = w - lr v.

    Parameters of one axis (biases, BatchNorm's) take the plain gradient: no scaling, no decay.
    The scaling is 1 where |w| or |g'| is 0. `params`, a list, may hold what is frozen, such as
    BatchNorm's running statistics: it is passed over.
    """

    def __init__(
        self,
        params: list,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 1e-6,
        trust: float = 0.001,
    ):
        super().__init__(params, lr)
        self.momentum, self.weight_decay, self.trust = momentum, weight_decay, trust
        for group in self.param_groups:
            self._start(group)

    @staticmethod
    def _start(group: dict) -> None:
        """Gives a group its velocities under the name that Jittor's SGD uses."""
        group["values"] = [jt.zeros(p.shape, p.dtype).stop_grad() for p in group["params"]]

    def add_param_group(self, group: dict) -> None:
        """Adds {"params": [...], and what differs: "lr", "momentum", "weight_decay", "trust"}."""
        self._start(group)
        super().add_param_group(group)

    def step(self, loss: jt.Var | None = None, retain_graph: bool = False) -> None:
        """One update of every parameter that takes a gradient."""
        self.pre_step(loss, retain_graph)
        for group in self.param_groups:
            lr, momentum = group.get("lr", self.lr), group.get("momentum", self.momentum)
            decay = group.get("weight_decay", self.weight_decay)
            trust = group.get("trust", self.trust)
            for p, gradient, velocity in zip(
                group["params"], group["grads"], group["values"], strict=True
            ):
                if p.is_stop_grad():
                    continue
                change = _scaled(p, gradient + decay * p, trust) if len(p.shape) > 1 else gradient
                velocity.update(momentum * velocity + change)
                p.update(p - lr * velocity)
        self.post_step()


def _scaled(weight: jt.Var, change: jt.Var, trust: float) -> jt.Var:
    """`change` times trust |weight| / |change|; unscaled where either is 0."""
    size, step = (weight * weight).sum().sqrt(), (change * change).sum().sqrt()
    usable = jt.logical_and(size > 0, step > 0)
    ratio = trust * size / jt.where(usable, step, jt.ones_like(step))
    return change * jt.where(usable, ratio, jt.ones_like(ratio))
