"""The running average of a network's weights, which is what FixMatch and others evaluate.

Sources: Tarvainen & Valpola 2017 (https://arxiv.org/abs/1703.01780); Sohn et al. 2020, section 2.4.
"""

import jittor as jt


class Ema(jt.nn.Module):
    """Holds the average of a network's parameters, and its buffers as they are.

    Where the average is a part of the module that the engine trains, it is in every checkpoint:

        class Student(jt.nn.Module):
            def __init__(self):
                self.network = make_network()
                self.ema = Ema(make_network(), self.network)
    """

    def __init__(
        self,
        average: jt.nn.Module,
        network: jt.nn.Module,
        decay: float = 0.999,
        warmup: bool = False,
    ):
        """average: a second network of the same kind, whose weights become those of `network` and
        are never trained. warmup: the decay is at most (1 + t) / (10 + t) at update t, counted
        from 0. What takes a gradient in `network` now is averaged from now on; all else, such as
        BatchNorm's running statistics, is copied. Raises ValueError for a decay out of [0, 1), for
        networks that differ, and where nothing takes a gradient.
        """
        if not 0 <= decay < 1:
            raise ValueError(f"decay is {decay}; it must lie within 0 and 1, 1 excluded")
        source, target = network.state_dict(), average.state_dict()
        shapes, wanted = ({n: tuple(v.shape) for n, v in s.items()} for s in (target, source))
        if shapes != wanted:
            raise ValueError("average and network differ in names or shapes: make both alike")
        self._averaged = [name for name, value in source.items() if not value.is_stop_grad()]
        if not self._averaged:
            raise ValueError("nothing in the network takes a gradient: call its train() first")
        for name, value in target.items():
            value.update(source[name].clone())
            value.stop_grad()
        self.average = average
        self.updates = jt.zeros(1).stop_grad()  # a float: exact up to 16 million
        self._decay, self._warmup = decay, warmup

    def update(self, network: jt.nn.Module) -> None:
        """Takes in the network's weights as they stand.

        Called at the head of a training step it takes in what the step before left, and nothing
        happens at the very first.
        """
        decay = self._decay
        if self._warmup:
            decay = jt.minimum((1 + self.updates) / (10 + self.updates), decay)
        source, target = network.state_dict(), self.average.state_dict()
        averaged = set(self._averaged)
        for name, value in target.items():
            new = source[name].detach()
            value.update(value + (1 - decay) * (new - value) if name in averaged else new.clone())
        self.updates.update(self.updates + 1)
        jt.sync([*target.values(), self.updates])  # else each step's weights are kept till then

    def execute(self, *inputs: jt.Var) -> jt.Var:
        """The average network's output in evaluation mode; no gradient flows."""
        self.average.eval()
        with jt.no_grad():
            return self.average(*inputs)
