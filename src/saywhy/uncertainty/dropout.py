"""Monte Carlo dropout (Gal and Ghahramani, 2016): a network is asked many times, each time without parts of itself.

A draw is one thinned network. All samples of a batch are asked of the same thinned networks, so that a sample's result
is the same alone and among others; torch's own dropout draws anew for every sample. What comes before the first dropout
is the same for all draws and is computed once.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saywhy.answer import as_answer
from saywhy.engine import tree
from saywhy.engine.memory import out_of_memory
from saywhy.engine.stem import Diverged, Stem, has_stem
from saywhy.errors import InputError, ModelError
from saywhy.models import Model
from saywhy.uncertainty.guesses import Guessed, guessed, inside, output_of

DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
"""What is drawn from."""

AT_ONCE_BYTES = 64 * 2**20
"""Draws that are run together take about this much memory behind the first dropout."""


def monte_carlo(model: Model, draws: int = 50, seed: int = 0) -> Model:
    """The same model, asked ``draws`` times with dropout: see :class:`MonteCarlo`."""
    module = MonteCarlo(model.module, draws, seed, model.output, model.multilabel)
    return replace(model, module=module, output=None, layer=inside(model.layer))


class MonteCarlo(nn.Module):
    """A network that guesses ``draws`` times with its dropout at work.

    Its output is a :class:`saywhy.uncertainty.guesses.Guessed`. Layers in front of the first dropout can be explained
    as those of the network itself; what is explained may be any function of the guesses
    (:mod:`saywhy.targets.uncertain`).

    Args:
        network: with modules ``nn.Dropout`` (or 1d, 2d, 3d) of a probability above 0. Dropout that is no module of its
            own, as within ``nn.LSTM`` and ``nn.MultiheadAttention``, stays silent.
        draws: how many guesses.
        seed: of the draws.
        output: where its class scores are, if they are not found.
        multilabel: whether every class is a yes or no of its own.

    Raises:
        InputError: the network has no such module, or draws is no number from 1.

    >>> net = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(8, 2))
    >>> MonteCarlo(net, draws=20)(torch.rand(3, 2, 4)).guesses.shape
    torch.Size([20, 3, 2])
    """

    def __init__(
        self,
        network: nn.Module,
        draws: int = 50,
        seed: int = 0,
        output: str | int | None = None,
        multilabel: bool = False,
    ) -> None:
        super().__init__()
        if isinstance(draws, bool) or not isinstance(draws, int) or draws < 1:
            raise InputError(f"draws must be a whole number of at least 1, got {draws!r}.")
        self.network, self.draws, self.seed, self.output, self.multilabel = network, draws, seed, output, multilabel
        self.expands = True
        """Whether several draws can run as one batch; found out by trying."""
        if not has_dropout(network):
            raise InputError(
                f"{type(network).__name__} has no dropout (modules nn.Dropout with p > 0), so that it always answers "
                "the same. Use an ensemble or augmentations (saywhy.uncertainty)."
            )

    @property
    def passes_on_to(self) -> nn.Module:
        """The network that takes the inputs."""
        return self.network

    def forward(self, *args: Any, **kwargs: Any) -> Guessed:
        """Guesses for a batch."""
        found = list(self._parts(_Inputs(args, kwargs)))
        variances = [v for part in found for v in part.variances]
        attention = [a for part in found for a in part.attention]
        return guessed(torch.cat([part.logits for part in found]), self.multilabel, variances, attention)

    def _parts(self, inputs: "_Inputs") -> Iterator["_Part"]:
        """All draws, as many at once as memory should have; one by one where the network takes no more.

        What has a graph, and what is watched or altered by a hook, as explanations do, must run once, for all draws:
        else a layer before them would be several tensors, of which a hook means one.
        """
        at_once = torch.is_grad_enabled() or _has_hooks(self.network)
        stem: Stem | None = Stem() if not at_once and has_stem(self.network, (inputs.args, inputs.kwargs)) else None
        start, size = 0, self.draws if at_once else 1
        while start < self.draws:
            part = slice(start, min(start + size, self.draws))
            try:
                found = self._part(inputs, part, stem)
            except Diverged:
                stem = None
                continue
            except _NotExpanded as error:
                if at_once:
                    raise ModelError(
                        f"{type(self.network).__name__} does not take several draws as one batch behind its first "
                        "dropout. So its disagreement has no gradient, and no hook can watch its layers. Ask the "
                        "network itself for its entropy, or use an ensemble."
                    ) from error
                self.expands, size = False, 1
                continue
            yield found
            if stem is not None and not stem.intact():
                stem = None
            start = part.stop
            size = max(1, AT_ONCE_BYTES // max(1, found.bytes)) if self.expands else 1

    def _part(self, inputs: "_Inputs", part: slice, stem: Stem | None) -> "_Part":
        """Some of the draws: those of a sample one behind the other, so that the batch is so many times as long."""
        count, samples = part.stop - part.start, tree.batch_size((inputs.args, inputs.kwargs))
        drawing = _Drawing(self, part, samples, stem)
        try:
            with drawing.at_work(), stem or nullcontext():
                result = self.network(*inputs.args, **inputs.kwargs)
        except Diverged:
            raise
        except Exception as error:
            if count == 1 or out_of_memory(error) or not drawing.length:
                raise
            raise _NotExpanded from error
        if not drawing.length:
            name = type(self.network).__name__
            raise InputError(f"no dropout of {name} ran on this input: it always answers the same.")
        logits = _of_draws(as_answer(result, samples * count, self.output).logits, samples, count)
        if logits is None or not logits.shape[2]:
            if as_answer(result, drawing.length * count, self.output).logits.shape[1]:
                raise ValueError(f"a hook made {drawing.length} samples of {samples}")
            if count > 1:
                raise _NotExpanded
            raise InputError("uncertainty is of class scores [batch, class], and the network's output has none.")
        extra = [_of_draws(output_of(result, name), samples, count) for name in ("variance", "attention")]
        variances, attention = ([] if of_each is None else list(of_each) for of_each in extra)
        return _Part(logits, variances, attention, drawing.bytes)


class _NotExpanded(Exception):
    """The rest of the network does not take a batch of another size than what came before."""


@dataclass(frozen=True)
class _Inputs:
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass(frozen=True)
class _Part:
    """Some draws."""

    logits: Float[Tensor, "draw batch class"]
    variances: list[Tensor]
    attention: list[Tensor]
    bytes: int


@dataclass
class _Drawing:
    """Dropout at work, for some of the draws.

    Attributes:
        length: of the batch that came to the first dropout; 0 before.
        bytes: what one draw takes behind the first of them.
    """

    owner: MonteCarlo
    part: slice
    samples: int
    stem: Stem | None
    length: int = 0
    bytes: int = 0
    calls: dict[int, int] = field(default_factory=dict)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Every dropout drops within the block."""
        with ExitStack() as stack:
            for number, dropout in enumerate(_dropouts(self.owner.network)):
                handle = dropout.register_forward_hook(
                    lambda module, given, _, number=number: self._dropped(module, number, given[0])
                )
                stack.callback(handle.remove)
            yield

    def _dropped(self, dropout: Any, number: int, x: Tensor) -> Tensor:
        count = self.part.stop - self.part.start
        samples = self.samples if count > 1 else 1
        if not self.length:
            if self.stem is not None:
                self.stem.reached()
            self.length, self.bytes = len(x), x.numel() * x.element_size()
            # A sample may be several here (its windows, its places): they stay together.
            x = x.unflatten(0, (samples, -1)).repeat_interleave(count, 0).flatten(0, 1)
        call = self.calls[number] = self.calls.get(number, -1) + 1
        axes = x.shape[1:] if isinstance(dropout, nn.Dropout) else (*x.shape[1:2], *[1] * (x.ndim - 2))
        draws = range(self.part.start, self.part.stop)
        kept = torch.stack([self._kept(dropout.p, number, call, draw, axes) for draw in draws])
        scaled = kept.to(x) / (1 - dropout.p if dropout.p < 1 else 1)
        # What has another length does not come from behind the first dropout, and is refused here.
        return (x.unflatten(0, (samples, count, -1)) * scaled.unsqueeze(1)).flatten(0, 2)

    def _kept(self, p: float, number: int, call: int, draw: int, axes: Any) -> Tensor:
        """What is left, the same for every sample and however many draws run at once."""
        seed = hash((self.owner.seed, number, call, draw)) % 2**63
        return torch.rand(tuple(axes), generator=torch.Generator().manual_seed(seed)) >= p


def has_dropout(network: nn.Module) -> bool:
    """Whether a network can guess several times by leaving out parts of itself.

    >>> has_dropout(nn.Dropout(0.5)), has_dropout(nn.Dropout(0.0))
    (True, False)
    """
    return any(True for _ in _dropouts(network))


def _dropouts(network: nn.Module) -> Iterator[nn.Module]:
    return (m for m in network.modules() if isinstance(m, DROPOUTS) and m.p > 0)


def _has_hooks(network: nn.Module) -> bool:
    return any(m._forward_hooks for m in network.modules())


def _of_draws(value: Any, samples: int, count: int) -> Tensor | None:
    """What came out for every draw and sample, [draw, batch, ...]; None where it is something else."""
    if not isinstance(value, Tensor) or not value.ndim:
        return None
    if len(value) == samples * count:
        return value.unflatten(0, (samples, count)).movedim(1, 0)
    return value.expand(count, *value.shape) if len(value) == samples else None  # it does not hang on any dropout
