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

from saywhy.engine import tree
from saywhy.engine.memory import out_of_memory
from saywhy.engine.prefix_cache import PrefixCache, PrefixDiverged, can_cache_prefix
from saywhy.errors import InputError, ModelError
from saywhy.models import Model
from saywhy.output import parse_output
from saywhy.uncertainty.mc_samples import MCSamples, as_mc_samples, asked_once, inside, loaded, output_of
from saywhy.validation import whole_number

DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
"""What is drawn from."""

AT_ONCE_BYTES = 64 * 2**20
"""Draws that are run together take about this much memory behind the first dropout."""


def mc_dropout(model: "str | nn.Module | Model", num_samples: int = 50, seed: int = 0) -> Model:
    """The same model, asked ``num_samples`` times with dropout: see :class:`MCDropout`."""
    model = loaded(model)
    module = MCDropout(model.module, num_samples, seed, model.output, model.multilabel)
    return replace(model, module=module, output=None, layer=inside(model.layer))


class MCDropout(nn.Module):
    """A network that guesses ``num_samples`` times with its dropout at work.

    Its output is a :class:`saywhy.uncertainty.mc_samples.MCSamples`. Layers in front of the first dropout can be
    explained, named with ``network.`` before; what is explained may be any function of the guesses
    (:mod:`saywhy.targets.uncertainty`).

    Args:
        network: with modules ``nn.Dropout`` (or 1d, 2d, 3d) of a probability above 0. Dropout that is no module of its
            own, as within ``nn.LSTM``, ``nn.MultiheadAttention`` and fused attention, or is a function (``F.dropout``),
            stays silent, and so do ``nn.AlphaDropout`` and stochastic depth.
        num_samples: how many guesses.
        seed: of the draws.
        output: where its class scores are, if they are not found.
        multilabel: whether every class is a yes or no of its own.

    Raises:
        InputError: the network has no such module, or draws is no number from 1.

    >>> net = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(8, 2))
    >>> MCDropout(net, num_samples=20)(torch.rand(3, 2, 4)).sample_logits.shape
    torch.Size([20, 3, 2])
    """

    def __init__(
        self,
        network: nn.Module,
        num_samples: int = 50,
        seed: int = 0,
        output: str | int | None = None,
        multilabel: bool = False,
    ) -> None:
        super().__init__()
        num_samples, seed = whole_number("num_samples", num_samples, 1), whole_number("seed", seed, low=None)
        self.network, self.num_samples, self.seed, self.output, self.multilabel = (
            network,
            num_samples,
            seed,
            output,
            multilabel,
        )
        self.expands = True
        """Whether several draws can run as one batch; found out by trying."""
        self.samples_first: bool | None = None
        """Whether the samples are the first axis of what comes to dropout; found out in the same way, None before."""
        if not has_dropout(network):
            raise InputError(
                f"{type(network).__name__} has no dropout (modules nn.Dropout with p > 0), so that it always answers "
                "the same. Use an ensemble or augmentations (saywhy.uncertainty)."
            )

    @property
    def passes_on_to(self) -> nn.Module:
        """The network that takes the inputs."""
        return self.network

    def forward(self, *args: Any, **kwargs: Any) -> MCSamples:
        """Guesses for a batch."""
        found = list(self._parts(_Inputs(args, kwargs)))
        variances = [v for part in found for v in part.variances]
        attention = [a for part in found for a in part.attention]
        return as_mc_samples(torch.cat([part.logits for part in found]), self.multilabel, variances, attention)

    def _parts(self, inputs: "_Inputs") -> Iterator["_Part"]:
        """All draws, as many at once as memory should have; one by one where the network takes no more.

        What has a graph, and what is watched or altered by a hook, as explanations do, must run once, for all draws:
        else a layer before them would be several tensors, of which a hook means one.
        """
        at_once = torch.is_grad_enabled() or _has_hooks(self.network)
        stem: PrefixCache | None = (
            PrefixCache() if not at_once and can_cache_prefix(self.network, (inputs.args, inputs.kwargs)) else None
        )
        start, size = 0, self.num_samples if at_once else 2 if self.expands else 1
        while start < self.num_samples:
            part = slice(start, min(start + size, self.num_samples))
            try:
                found = self._part(inputs, part, stem)
            except PrefixDiverged:
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
                self.samples_first = False if error.elsewhere else None
                continue
            yield found
            if stem is not None and not stem.intact():
                stem = None
            start = part.stop
            size = max(1, AT_ONCE_BYTES // max(1, found.bytes)) if self.expands else 1

    def _part(self, inputs: "_Inputs", part: slice, stem: PrefixCache | None) -> "_Part":
        """Some of the draws: those of a sample one behind the other, so that the batch is so many times as long."""
        count, samples = part.stop - part.start, tree.batch_size((inputs.args, inputs.kwargs))
        drawing = _Drawing(self, part, samples, stem)
        try:
            with drawing.at_work(), stem or nullcontext():
                result = self.network(*inputs.args, **inputs.kwargs)
        except PrefixDiverged:
            raise
        except Exception as error:
            if count == 1 or out_of_memory(error) or not drawing.length:
                raise
            raise _NotExpanded from error
        if not drawing.length:
            name = type(self.network).__name__
            raise NoDropout(
                f"no dropout of {name} ran on this input (that within fused attention is not seen): it always answers "
                "the same."
            )
        asked_once(result, self.network)
        logits = _of_draws(parse_output(result, samples * count, self.output).logits, samples, count)
        if logits is None or not logits.shape[2]:
            if parse_output(result, drawing.length * count, self.output).logits.shape[1]:
                raise ValueError(f"a hook made {drawing.length} samples of {samples}")
            if count > 1:
                raise _NotExpanded(elsewhere=bool(parse_output(result, samples, self.output).logits.shape[1]))
            raise InputError("uncertainty is of class scores [batch, class], and the network's output has none.")
        if count > 1:
            self.samples_first = True
        extra = [_of_draws(output_of(result, name), samples, count, True) for name in ("variance", "attention")]
        variances, attention = ([] if of_each is None else list(of_each) for of_each in extra)
        return _Part(logits, variances, attention, drawing.bytes)


class NoDropout(InputError):
    """There is no dropout that ran."""


class _NotExpanded(Exception):
    """The rest of the network does not take a batch of another size than what came before.

    Attributes:
        elsewhere: it does, but has as many answers as before: what was made longer are not the samples.
    """

    def __init__(self, elsewhere: bool = False) -> None:
        super().__init__()
        self.elsewhere = elsewhere


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
        calls: how often each dropout has run.
        axes: the axis of the samples at each of them.
    """

    owner: MCDropout
    part: slice
    samples: int
    stem: PrefixCache | None
    length: int = 0
    bytes: int = 0
    calls: dict[int, int] = field(default_factory=dict)
    axes: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.axes = _axes(self.owner.network)

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
        count, axis = self.part.stop - self.part.start, self.axes[number]
        x = x.movedim(axis, 0)
        # A sample may be several here (its windows, its places), each of which is thinned in its own way.
        samples = self.samples if count > 1 or self._samples_first(len(x)) else 1
        if not self.length:
            if self.stem is not None:
                self.stem.reached()
            self.length, self.bytes = len(x), x.numel() * x.element_size()
            x = x.unflatten(0, (samples, -1)).repeat_interleave(count, 0).flatten(0, 1)
        call = self.calls[number] = self.calls.get(number, -1) + 1
        each = len(x) // (samples * count)
        axes = (each, *(x.shape[1:] if isinstance(dropout, nn.Dropout) else (*x.shape[1:2], *[1] * (x.ndim - 2))))
        num_samples = range(self.part.start, self.part.stop)
        kept = torch.stack([self._kept(dropout.p, number, call, draw, axes) for draw in num_samples])
        scaled = kept.to(x) / (1 - dropout.p if dropout.p < 1 else 1)
        # What has another length does not come from behind the first dropout, and is refused here.
        return (x.unflatten(0, (samples, count, -1)) * scaled).flatten(0, 2).movedim(0, axis)

    def _samples_first(self, length: int) -> bool:
        """Whether of so many rows the first are those of the first sample; where nobody knows, each is its own sample.

        Only one for each sample are that without having been tried: they may as well be places, if samples come second.
        """
        first = self.owner.samples_first
        return length == self.samples if first is None else first and length % self.samples == 0

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


def _axes(network: nn.Module) -> list[int]:
    """The axis of the samples at every dropout: 1 within torch's transformers, unless they are told otherwise."""
    second = {
        id(inner)
        for module in network.modules()
        if isinstance(module, nn.TransformerEncoderLayer | nn.TransformerDecoderLayer)
        and not module.self_attn.batch_first
        for inner in module.modules()
    }
    return [int(id(dropout) in second) for dropout in _dropouts(network)]


def _has_hooks(network: nn.Module) -> bool:
    return any(m._forward_hooks for m in network.modules())


def _of_draws(value: Any, samples: int, count: int, once: bool = False) -> Tensor | None:
    """What came out for every draw and sample, [draw, batch, ...]; None where it is something else.

    What comes out once for each sample is taken for all draws if ``once``: it does not hang on any dropout.
    """
    if not isinstance(value, Tensor) or not value.ndim:
        return None
    if len(value) == samples * count:
        return value.unflatten(0, (samples, count)).movedim(1, 0)
    return value.expand(count, *value.shape) if once and len(value) == samples else None
