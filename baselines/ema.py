"""The running average of a network's weights, which is what FixMatch and others evaluate.

Sources: Tarvainen & Valpola 2017 (https://arxiv.org/abs/1703.01780); Sohn et al. 2020, section 2.4.
"""

import copy

import jittor as jt


class Averaged(jt.nn.Module):
    """A network and its average: trained as one module, both are in every checkpoint."""

    def __init__(self, network: jt.nn.Module, decay: float = 0.999, warmup: bool = True):
        """warmup: the decay is at most (1 + t) / (10 + t) at update t, counted from 0. What takes a
        gradient now is averaged from now on; all else, such as BatchNorm's running statistics, is
        copied. Raises ValueError for a decay out of [0, 1), and where nothing takes a gradient.
        """
        if not 0 <= decay < 1:
            raise ValueError(f"decay is {decay}; it must lie within 0 and 1, 1 excluded")
        named = network.state_dict().items()
        self._averaged = {name for name, value in named if not value.is_stop_grad()}
        if not self._averaged:
            raise ValueError("nothing in the network takes a gradient: call its train() first")
        self.network, self.average = network, copy.deepcopy(network)
        for value in self.average.state_dict().values():
            value.stop_grad()
        self.updates = jt.zeros(1).stop_grad()  # a float: exact up to 16 million
        self._decay, self._warmup = decay, warmup

    def update(self) -> None:
        """Takes in the network's weights as they stand: once after each training step."""
        decay = self._decay
        if self._warmup:
            decay = jt.minimum((1 + self.updates) / (10 + self.updates), decay)
        source, target = self.network.state_dict(), self.average.state_dict()
        for name, value in target.items():
            new = source[name].detach()
            moved = value + (1 - decay) * (new - value) if name in self._averaged else new.clone()
            value.update(moved)
        self.updates.update(self.updates + 1)
        jt.sync([*target.values(), self.updates])  # else each step's weights are kept till then

    def hand_over(self) -> None:
        """The network's weights become the average's, and it is one by itself again."""
        self.train()  # Jittor's evaluation mode is of a whole: the network could not wake up alone
        source = self.average.state_dict()
        for name, value in self.network.state_dict().items():
            value.update(source[name].detach().clone())
        self.network.eval()
