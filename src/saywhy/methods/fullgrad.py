r"""FullGrad: the gradients of the image and of all biases, which sum to the score."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from saywhy.engine.calls import differentiated, spelled
from saywhy.engine.function_mode import FunctionMode
from saywhy.engine.runner import ModelRunner
from saywhy.methods.guided import in_parts, upsampled
from saywhy.methods.method import AttributionResult
from saywhy.methods.registry import method
from saywhy.shapes import at_least_float32

Rescale = Literal["layer", "channel", "none"]


@method(
    "fullgrad",
    title="FullGrad",
    paper="Srinivas and Fleuret, 2019",
    equation="Σ ψ(x ⊙ G) + Σ over layers of ψ(b ⊙ dy/dz)",
    family="backward rule",
    order=440,
    passes="several",
    at="input",
)
def fullgrad(runner: ModelRunner, *, rescale: Rescale = "layer") -> AttributionResult:
    r"""FullGrad (Srinivas and Fleuret, 2019, equation 5): input gradient and bias gradients of all layers.

    .. math:: M = \psi\Big(\frac{\partial y}{\partial x} \odot x\Big) +
              \sum_{l} \sum_{c} \psi\Big(\Big(\frac{\partial y}{\partial z_l} \odot b_l\Big)_c\Big), \qquad
              \psi(\cdot) = \text{upsampled}(\text{rescaled}(|\cdot|))

    The sum runs over all layers whose outputs :math:`z_l` have a bias: linear layers, convolutions, normalisations, and
    batch norm with its implicit bias :math:`\beta - \mu\gamma/\sigma`. For a network of such layers and ReLUs the terms
    sum to the score (proposition 1). Terms without a position in the image (of a linear head) count in that sum and are
    not shown.

    Args:
        runner: the network and the images.
        rescale: which magnitudes are rescaled to [0, 1] together: those of a ``"layer"`` (the authors' code), those of
            a ``"channel"`` (the equation, taken literally), or ``"none"``: the map is then in units of the score, and
            layers of small terms count little.

    Returns:
        Maps [batch, target, *space], non-negative; without a unit unless ``rescale="none"``. The completeness error is
        the sum of the terms less the score, as a share of the score; it is zero for ReLU networks.

    Raises:
        MethodError: ``rescale`` is none of the three.

    Differs from the authors' code: no epsilon (a constant layer adds nothing), layers in the order and as often as they
    run, cells aligned by their corners (``align_corners=False``), functional layers included.

    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3, 1))
    >>> _ = net[1].weight.data.copy_(torch.tensor([[2.0, 3.0, -1.0]]))
    >>> found = fullgrad(ModelRunner.of(net, torch.tensor([[[1.0, 2.0, 3.0]]]), lambda out: out[:, 0]), rescale="none")
    >>> found.maps, float(found.completeness_error) < 1e-6
    (tensor([[[2., 6., 3.]]]), True)
    """
    completeness_errors: dict[int, Tensor] = {}

    def run(part: slice) -> Tensor:
        maps, completeness_errors[part.start] = _part_maps(runner.at_image(), part, rescale)
        return maps

    maps = in_parts(runner, run, "fullgrad")
    completeness_error = torch.cat([completeness_errors[start] for start in sorted(completeness_errors)])
    return AttributionResult(maps, completeness_error)


def _part_maps(runner: ModelRunner, part: slice, rescale: Rescale) -> tuple[Tensor, Tensor]:
    """Return maps [batch, target, *space] and completeness errors [batch, target] of a slice of the samples."""
    images = runner.image[part]
    biases = _Biases(tuple(images.shape))
    captured = runner.watch(images, torch.arange(part.start, part.stop), lambda: biases)
    maps, completeness_errors = [], []
    for t in range(captured.scores.shape[1]):
        biases.terms.clear()
        (G,) = captured.gradients(slice(t, t + 1)).values()
        terms = [
            _Term(at_least_float32(G[:, 0]) * at_least_float32(images), shows=True),
            *(biases.terms[i] for i in sorted(biases.terms)),
        ]
        grid = tuple(images.shape[2:])
        shown = [upsampled(_rescaled(term.values, rescale).sum(1, keepdim=True), grid) for term in terms if term.shows]
        maps.append(torch.cat(shown, dim=1).sum(1))
        score = at_least_float32(captured.scores[:, t]).double()
        # Windows of tokens are in the batch axis, sample by sample.
        total = sum(term.values.double().reshape(len(images), -1).sum(1) for term in terms)
        completeness_errors.append((total - score) / score.abs())
    return torch.stack(maps, dim=1), torch.stack(completeness_errors, dim=1)


def _rescaled(values: Tensor, rescale: Rescale) -> Tensor:
    """Return magnitudes [batch, channel, *space], rescaled to the range from 0 to 1 unless ``"none"``."""
    magnitudes = values.abs()
    if rescale == "none":
        return magnitudes
    axes = tuple(range(1 if rescale == "layer" else 2, values.ndim))
    low = magnitudes.amin(axes, keepdim=True)
    span = magnitudes.amax(axes, keepdim=True) - low
    return torch.where(span > 0, (magnitudes - low) / torch.where(span > 0, span, 1.0), 0.0)


@dataclass(frozen=True)
class _Term:
    """The term of the score from the input or a bias; [batch, channel, *space] if it ``shows`` on the map."""

    values: Tensor
    shows: bool


class _Biases(FunctionMode):
    """A mode in which every layer with a bias records its term in the backward pass."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape
        self.terms: dict[int, _Term] = {}
        self._count = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        options = dict(kwargs or {})
        result = func(*args, **options)
        name, _ = spelled(func, options)
        if name in _ARGUMENTS and differentiated(result) and len(result) % self.shape[0] == 0:
            bias = _bias(name, {**dict(zip(_ARGUMENTS[name], args, strict=False)), **options})
            if bias is not None:
                self._record_term(result, bias.detach(), last=name in ("linear", "layer_norm") and bias.ndim == 1)
        return result

    def _record_term(self, result: Tensor, bias: Tensor, *, last: bool) -> None:
        """Record the term of a bias in the backward pass; channels are the second axis, or the last if ``last``."""
        number = self._count
        self._count += 1
        # Tokens have their channels last and are not shown, whatever the number of their axes.
        shows = result.ndim == len(self.shape) and len(result) == self.shape[0] and not (last and result.ndim == 3)
        added = bias.view(-1, *[1] * (result.ndim - 2)) if bias.ndim == 1 and not last else bias

        # A tensor hook belongs to the value at this point, whatever is done to the tensor in place afterwards.
        def keep(gradient: Tensor) -> None:
            values = at_least_float32(gradient) * at_least_float32(added)
            self.terms[number] = _Term(values.movedim(-1, 1) if last else values, shows)

        result.register_hook(keep)


_CONVOLUTION = ("input", "weight", "bias")
_ARGUMENTS: Mapping[str, Sequence[str]] = {
    **dict.fromkeys(("linear", "conv1d", "conv2d", "conv3d"), _CONVOLUTION),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), _CONVOLUTION),
    "batch_norm": ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps"),
    "layer_norm": ("input", "normalized_shape", "weight", "bias"),
    "group_norm": ("input", "num_groups", "weight", "bias"),
}
"""The arguments of layers with a bias, by the name of their torch function."""


def _bias(name: str, named: Mapping[str, Any]) -> Tensor | None:
    """Return the bias of a layer, [channel]; for batch norm the implicit one, ``β - μγ/σ``."""
    bias: Tensor | None = named.get("bias")
    if name != "batch_norm" or named["running_mean"] is None:
        return bias
    # γ (x - μ) / σ + β = (γ / σ) x + (β - μγ / σ)
    scale = (named["running_var"] + named.get("eps", 1e-5)).rsqrt()
    scale = scale if named.get("weight") is None else scale * named["weight"]
    return (0.0 if bias is None else bias) - named["running_mean"] * scale
