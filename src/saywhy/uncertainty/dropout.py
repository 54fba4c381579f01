"""Monte Carlo dropout (Gal and Ghahramani, 2016): predictions of a network with dropout active.

A Monte Carlo sample (draw) is the prediction of one dropout mask. All inputs of a batch share the same masks, so that
the result of an input does not depend on the rest of the batch; torch's own dropout draws a mask for every input.
The layers before the first dropout give the same output for all draws and are computed once.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saywhy.engine import tree
from saywhy.engine.hooks import forward_hooks
from saywhy.engine.memory import out_of_memory
from saywhy.engine.prefix_cache import PrefixCache, PrefixDiverged, can_cache_prefix
from saywhy.errors import InputError, ModelError
from saywhy.interrupts import deferred_interrupts, interruptible
from saywhy.models import Model
from saywhy.output import OutputScale
from saywhy.uncertainty.mc_samples import (
    MCSamples,
    as_mc_samples,
    as_model,
    output_of,
    single_output,
    single_scores,
    wrapped_layer,
)
from saywhy.validation import whole_number

DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
"""The dropout modules that are active."""

AT_ONCE_BYTES = 64 * 2**20
"""The approximate memory, after the first dropout, of the draws that run as one batch."""


def mc_dropout(model: "str | nn.Module | Model", num_samples: int = 50, seed: int = 0) -> Model:
    """Return the model with ``num_samples`` Monte Carlo dropout samples: see :class:`MCDropout`."""
    model = as_model(model)
    module = MCDropout(model.module, num_samples, seed, model.output, model.multilabel, model.scale)
    return replace(model, module=module, output=None, layer=wrapped_layer(model.layer), scale=None)


class MCDropout(nn.Module):
    """A network that returns ``num_samples`` Monte Carlo dropout samples.

    Its output is a :class:`saywhy.uncertainty.mc_samples.MCSamples`. Layers before the first dropout can be explained
    (their names start with ``network.``); the target may be any function of the samples
    (:mod:`saywhy.targets.uncertainty`).

    Args:
        network: a network with modules ``nn.Dropout`` (or 1d, 2d, 3d) of a probability above 0. Other dropout stays
            inactive: inside ``nn.LSTM``, ``nn.MultiheadAttention`` and fused attention, the function ``F.dropout``,
            ``nn.AlphaDropout`` and stochastic depth.
        num_samples: the number of Monte Carlo samples.
        seed: the seed of the dropout masks.
        output: the key or index of the class scores in the network's output, if they are not found automatically.
        multilabel: whether the classes are independent (sigmoid instead of softmax).
        scale: what the class scores are (:attr:`saywhy.models.Model.scale`); None finds it.

    Raises:
        InputError: the network has no such module, or ``num_samples`` is not a whole number of at least 1.

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
        scale: OutputScale | None = None,
    ) -> None:
        super().__init__()
        self.scale = scale
        num_samples, seed = whole_number("num_samples", num_samples, 1), whole_number("seed", seed, low=None)
        self.network, self.num_samples, self.seed, self.output, self.multilabel = (
            network,
            num_samples,
            seed,
            output,
            multilabel,
        )
        self.expands = True
        """Whether several draws can run as one batch; determined by trying."""
        self.samples_first: bool | None = None
        """Whether the batch is the first axis of the input of dropout; determined by trying, None before."""
        if not has_dropout(network):
            raise InputError(
                f"{type(network).__name__} has no dropout (modules nn.Dropout with p > 0), so that all samples are "
                "equal. Use ensemble or with_augmentations (saywhy.uncertainty)."
            )

    @property
    def wrapped_module(self) -> nn.Module:
        """The wrapped network, which takes the inputs."""
        return self.network

    def forward(self, *args: Any, **kwargs: Any) -> MCSamples:
        """Return the Monte Carlo samples of a batch."""
        found = list(self._blocks(_Inputs(args, kwargs)))
        variances = [v for part in found for v in part.variances]
        attention = [a for part in found for a in part.attention]
        scores = torch.cat([part.logits for part in found])
        return as_mc_samples(scores, self.multilabel, variances, attention, scale=self.scale)

    def _blocks(self, inputs: "_Inputs") -> Iterator["_SampleBlock"]:
        """Run all draws in blocks of about :data:`AT_ONCE_BYTES`; one by one if the network takes no larger batch.

        With a graph or with hooks (as in explanations), all draws run at once: otherwise a layer before the dropout
        would have several output tensors, of which a hook means one.
        """
        at_once = torch.is_grad_enabled() or _has_hooks(self.network)
        prefix: PrefixCache | None = (
            PrefixCache() if not at_once and can_cache_prefix(self.network, (inputs.args, inputs.kwargs)) else None
        )
        start, size = 0, self.num_samples if at_once else 2 if self.expands else 1
        while start < self.num_samples:
            part = slice(start, min(start + size, self.num_samples))
            try:
                found = self._block(inputs, part, prefix)
            except PrefixDiverged:
                prefix = None
                continue
            except _BatchNotExpanded as error:
                if at_once:
                    raise ModelError(
                        f"{type(self.network).__name__} does not take several draws as one batch after its first "
                        "dropout, so that its disagreement has no gradient, and no hook can watch its layers. Explain "
                        "the entropy of the network itself, or use an ensemble."
                    ) from error
                self.expands, size = False, 1
                self.samples_first = False if error.elsewhere else None
                continue
            yield found
            if prefix is not None and not prefix.intact():
                prefix = None
            start = part.stop
            size = max(1, AT_ONCE_BYTES // max(1, found.bytes)) if self.expands else 1

    def _block(self, inputs: "_Inputs", part: slice, prefix: PrefixCache | None) -> "_SampleBlock":
        """Run a block of draws as one batch; the draws of a sample are consecutive."""
        count, samples = part.stop - part.start, tree.batch_size((inputs.args, inputs.kwargs))
        sampling = _DropoutSampling(self, part, samples, prefix)
        try:
            with deferred_interrupts(), sampling.active(), prefix or nullcontext():
                result = interruptible(lambda: self.network(*inputs.args, **inputs.kwargs))
        except PrefixDiverged:
            raise
        except Exception as error:
            if count == 1 or out_of_memory(error) or not sampling.length:
                raise
            raise _BatchNotExpanded from error
        if not sampling.length:
            name = type(self.network).__name__
            raise NoDropout(
                f"no dropout of {name} ran on this input (dropout inside fused attention does not count), so that all "
                "samples are equal. Use ensemble or with_augmentations (saywhy.uncertainty)."
            )
        single_output(result, self.network)
        logits = _split_samples(self._scores(result, samples * count), samples, count)
        if logits is None or not logits.shape[2]:
            if self._scores(result, sampling.length * count).shape[1]:
                raise ValueError(f"a hook made {sampling.length} samples of {samples}")
            if count > 1:
                raise _BatchNotExpanded(elsewhere=bool(self._scores(result, samples).shape[1]))
            raise InputError("uncertainty needs class scores [batch, class], and the network's output has none.")
        if count > 1:
            self.samples_first = True
        extra = [_split_samples(output_of(result, name), samples, count, True) for name in ("variance", "attention")]
        variances, attention = ([] if of_each is None else list(of_each) for of_each in extra)
        return _SampleBlock(logits, variances, attention, sampling.bytes)

    def _scores(self, result: Any, samples: int) -> Tensor:
        return single_scores(result, samples, self.output, self.network)


class NoDropout(InputError):
    """No dropout module of the network ran."""


class _BatchNotExpanded(Exception):
    """The network after the first dropout does not take a batch of another size.

    Attributes:
        elsewhere: it does take one, but returns as many outputs as before: the lengthened axis is not the batch.
    """

    def __init__(self, elsewhere: bool = False) -> None:
        super().__init__()
        self.elsewhere = elsewhere


@dataclass(frozen=True)
class _Inputs:
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass(frozen=True)
class _SampleBlock:
    """The output of a block of draws."""

    logits: Float[Tensor, "draw batch class"]
    variances: list[Tensor]
    attention: list[Tensor]
    bytes: int


@dataclass
class _DropoutSampling:
    """Active dropout for a block of draws.

    Attributes:
        length: the batch size at the first dropout; 0 before it ran.
        bytes: the memory of one draw after the first dropout.
        calls: the number of calls of each dropout.
        axes: the batch axis at each dropout.
    """

    owner: MCDropout
    part: slice
    samples: int
    prefix: PrefixCache | None
    length: int = 0
    bytes: int = 0
    calls: dict[int, int] = field(default_factory=dict)
    axes: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.axes = _axes(self.owner.network)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Activate every dropout within the block."""
        numbers = {dropout: number for number, dropout in enumerate(_dropouts(self.owner.network))}
        with forward_hooks(numbers, lambda module, given, _: self._apply_dropout(module, numbers[module], given[0])):
            yield

    def _apply_dropout(self, dropout: Any, number: int, x: Tensor) -> Tensor:
        count, axis = self.part.stop - self.part.start, self.axes[number]
        x = x.movedim(axis, 0)
        # A sample may have several rows here (windows, places), each with its own mask.
        samples = self.samples if count > 1 or self._samples_first(len(x)) else 1
        if not self.length:
            if self.prefix is not None:
                self.prefix.reached()
            self.length, self.bytes = len(x), x.numel() * x.element_size()
            x = x.unflatten(0, (samples, -1)).repeat_interleave(count, 0).flatten(0, 1)
        call = self.calls[number] = self.calls.get(number, -1) + 1
        each = len(x) // (samples * count)
        axes = (each, *(x.shape[1:] if isinstance(dropout, nn.Dropout) else (*x.shape[1:2], *[1] * (x.ndim - 2))))
        num_samples = range(self.part.start, self.part.stop)
        kept = torch.stack([self._dropout_mask(dropout.p, number, call, draw, axes) for draw in num_samples])
        scaled = kept.to(x) / (1 - dropout.p if dropout.p < 1 else 1)
        # A tensor of another length does not depend on the first dropout, and fails here.
        return (x.unflatten(0, (samples, count, -1)) * scaled).flatten(0, 2).movedim(0, axis)

    def _samples_first(self, length: int) -> bool:
        """Return whether the first of ``length`` rows belong to the first sample; if unknown, each row is a sample.

        Before a trial, only one row a sample is accepted: rows may also be places, if the batch is the second axis.
        """
        first = self.owner.samples_first
        return length == self.samples if first is None else first and length % self.samples == 0

    def _dropout_mask(self, p: float, number: int, call: int, draw: int, axes: Any) -> Tensor:
        """Return the dropout mask, the same for every sample and for every number of draws that run at once."""
        seed = hash((self.owner.seed, number, call, draw)) % 2**63
        return torch.rand(tuple(axes), generator=torch.Generator().manual_seed(seed)) >= p


def has_dropout(network: nn.Module) -> bool:
    """Return whether a network has dropout modules with a probability above 0.

    >>> has_dropout(nn.Dropout(0.5)), has_dropout(nn.Dropout(0.0))
    (True, False)
    """
    return any(True for _ in _dropouts(network))


def _dropouts(network: nn.Module) -> Iterator[nn.Module]:
    return (m for m in network.modules() if isinstance(m, DROPOUTS) and m.p > 0)


def _axes(network: nn.Module) -> list[int]:
    """Return the batch axis at every dropout: 1 inside torch's transformer layers without ``batch_first``, else 0."""
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


def _split_samples(value: Any, samples: int, count: int, once: bool = False) -> Tensor | None:
    """Return an output by draw and sample, [draw, batch, ...]; None if it does not have this form.

    With ``once``, an output with one row a sample is repeated for all draws: it does not depend on dropout.
    """
    if not isinstance(value, Tensor) or not value.ndim:
        return None
    if len(value) == samples * count:
        return value.unflatten(0, (samples, count)).movedim(1, 0)
    return value.expand(count, *value.shape) if once and len(value) == samples else None
