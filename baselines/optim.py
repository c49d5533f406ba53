"""What Jittor's optimizers lack: LARS, and the moving average of a network's weights (EMA)."""

import copy

import jittor as jt


class Lars(jt.optim.Optimizer):
    """SGD with momentum whose step is scaled to the norm of each weight.

    With g' = g + weight_decay w: v = momentum v + trust |w| / |g'| g', w = w - lr v.
    Parameters with one axis (biases, BatchNorm) use the plain gradient: no scaling, no decay. The
    scale is 1 if |w| or |g'| is 0. Frozen parameters are skipped.
    Source: You et al. 2017 (https://arxiv.org/abs/1708.03888), as SimCLR and MoCo v3 use it.
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
            self._add_velocities(group)

    @staticmethod
    def _add_velocities(group: dict) -> None:
        """Stores a group's velocities under the name that Jittor's SGD uses."""
        group["values"] = [jt.zeros(p.shape, p.dtype).stop_grad() for p in group["params"]]

    def add_param_group(self, group: dict) -> None:
        """Adds {"params": [...]} with its own "lr", "momentum", "weight_decay" or "trust"."""
        self._add_velocities(group)
        super().add_param_group(group)

    def step(self, loss: jt.Var | None = None, retain_graph: bool = False) -> None:
        """Updates every parameter that takes a gradient."""
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
                update = gradient
                if len(p.shape) > 1:
                    update = _scale_to_weight(p, gradient + decay * p, trust)
                velocity.update(momentum * velocity + update)
                p.update(p - lr * velocity)
        self.post_step()


def _scale_to_weight(weight: jt.Var, update: jt.Var, trust: float) -> jt.Var:
    """Returns `update` times trust |weight| / |update|, unscaled if either norm is 0."""
    weight_norm = (weight * weight).sum().sqrt()
    update_norm = (update * update).sum().sqrt()
    both_positive = jt.logical_and(weight_norm > 0, update_norm > 0)
    ones = jt.ones_like(update_norm)
    ratio = trust * weight_norm / jt.where(both_positive, update_norm, ones)
    return update * jt.where(both_positive, ratio, ones)


class ModelEma(jt.nn.Module):
    """A network and the moving average of its weights, in one module and so in one checkpoint.

    Sources: Tarvainen & Valpola 2017 (https://arxiv.org/abs/1703.01780); FixMatch (Sohn et al.
    2020), section 2.4, which evaluates the average.
    """

    def __init__(self, network: jt.nn.Module, decay: float = 0.999, warmup: bool = True):
        """warmup: limits the decay to (1 + t) / (10 + t) at update t, counted from 0.

        What takes a gradient now is averaged; everything else, such as running statistics of
        BatchNorm, is copied. Raises ValueError for a decay outside [0, 1), and if nothing takes a
        gradient.
        """
        if not 0 <= decay < 1:
            raise ValueError(f"decay is {decay}; it must be at least 0 and below 1")
        named = network.state_dict().items()
        self._averaged_names = {name for name, value in named if not value.is_stop_grad()}
        if not self._averaged_names:
            raise ValueError("nothing in the network takes a gradient: call its train() first")
        self.network, self.average = network, copy.deepcopy(network)
        for value in self.average.state_dict().values():
            value.stop_grad()
        self.updates = jt.zeros(1).stop_grad()  # a float: exact up to 16 million
        self._decay, self._warmup = decay, warmup

    def update(self) -> None:
        """Adds the network's current weights to the average; call it after each training step."""
        decay = self._decay
        if self._warmup:
            decay = jt.minimum((1 + self.updates) / (10 + self.updates), decay)
        source, target = self.network.state_dict(), self.average.state_dict()
        for name, value in target.items():
            new = source[name].detach()
            if name in self._averaged_names:
                value.update(value + (1 - decay) * (new - value))
            else:
                value.update(new.clone())
        self.updates.update(self.updates + 1)
        jt.sync([*target.values(), self.updates])  # else every step's weights stay in memory

    def copy_to_network(self) -> None:
        """Replaces the network's weights by the average; the network can be used alone again."""
        self.train()  # Jittor's evaluation mode covers the whole module: leave it for all of it
        source = self.average.state_dict()
        for name, value in self.network.state_dict().items():
            value.update(source[name].detach().clone())
        self.network.eval()
