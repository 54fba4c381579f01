r"""Robustness of maps to small changes of the image: noise, and a constant shift that the network compensates.

These metrics evaluate a method on an image, not one map: they rerun the explanation on other images. Norms are relative
to the norm of the map, so that units do not matter; a change of a map of zeros is infinite. The value of an image does
not depend on its batch: all images get the same noise, drawn for one image of that size.
"""

from math import inf
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from saywhy.engine import tree
from saywhy.engine.shift import undoing_shift
from saywhy.explanation import Explainer
from saywhy.metrics.correlation import rank_correlation
from saywhy.metrics.registry import metric
from saywhy.progress import counted
from saywhy.shapes import MapStack, Scores, rows_of
from saywhy.validation import NegativeFloat, PositiveFloat, real_number, validate, whole_number

if TYPE_CHECKING:
    from saywhy.explanation import Explanation

RADIUS = 0.02
"""Radius of the noise, as a share of the image's range."""

NUM_SAMPLES = 8
"""Number of noisy copies of the image."""

SHIFT = 0.1
"""Size of the constant shift, as a share of the image's range."""


@metric(
    "max-sensitivity",
    title="Max-sensitivity",
    paper="Yeh et al., 2019",
    equation="max_δ ‖M(x + δ) − M(x)‖ / ‖M(x)‖",
    better="lower",
    low=0.0,
    high=inf,
    needs="method",
    order=160,
)
def max_sensitivity(
    explanation: "Explanation",
    method: str,
    layer: str,
    *,
    radius: float = RADIUS,
    num_samples: int = NUM_SAMPLES,
    seed: int = 0,
) -> Scores:
    r"""Max-sensitivity (Yeh et al., 2019, definition 2.3), relative to the map.

    .. math:: \max_{\lVert \delta \rVert_\infty \le r} \lVert M(x + \delta) - M(x) \rVert_2 / \lVert M(x) \rVert_2

    estimated as the maximum over samples of uniform noise.

    Differs from captum's ``sensitivity_max`` and quantus's ``MaxSensitivity``, whose radius is in units of the image;
    for a map of zeros captum divides by 1, and this value is infinite.

    Args:
        explanation: the explanation, with its model unchanged.
        method, layer: the method and the layer of the maps.
        radius: radius of the noise, as a share of the range (maximum less minimum) of the preprocessed image.
        num_samples: the number of noise samples; more give a tighter lower bound of the maximum.
        seed: the seed of the noise. Random numbers of the method itself stay the same.

    Returns:
        [batch, target] from 0; lower is better. NaN if a map contains NaN.

    Raises:
        InputError: ``radius`` or ``num_samples`` is not positive, or the explanation cannot be rerun.

    >>> import saywhy
    >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    >>> e = saywhy.explain(network, torch.rand(1, 1, 2, 2), 0, "saliency")
    >>> max_sensitivity(e, "saliency", "input")  # of a linear network: its weights, whatever the image
    tensor([[0.]], dtype=torch.float64)
    """
    own = rows_of(explanation[method, layer])
    changes = [
        (rows_of(m) - own).norm(dim=-1) for m in _noisy_maps(explanation, method, layer, radius, num_samples, seed)
    ]
    return _relative(torch.stack(changes).amax(0), own)


@metric(
    "stability",
    title="Stability",
    paper="ours",
    equation="mean_δ Spearman(M(x + δ), M(x))",
    better="higher",
    low=-1.0,
    high=1.0,
    needs="method",
    order=170,
)
def stability(
    explanation: "Explanation",
    method: str,
    layer: str,
    *,
    radius: float = RADIUS,
    num_samples: int = NUM_SAMPLES,
    seed: int = 0,
) -> Scores:
    """Stability: the mean rank correlation of the map with the maps of noisy copies of the image (not published).

    Args, errors: as for :func:`max_sensitivity`.

    Returns:
        [batch, target] from -1 to 1, 0 for a constant map; higher is better.

    >>> import saywhy
    >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    >>> e = saywhy.explain(network, torch.rand(1, 1, 2, 2), 0, "saliency")
    >>> stability(e, "saliency", "input")  # of a linear network: its weights, whatever the image
    tensor([[1.]], dtype=torch.float64)
    """
    own = rows_of(explanation[method, layer])
    found = [
        rank_correlation(rows_of(m), own) for m in _noisy_maps(explanation, method, layer, radius, num_samples, seed)
    ]
    return torch.stack(found).mean(0)


@metric(
    "input-shift-variance",
    title="Input invariance",
    paper="Kindermans et al., 2019",
    equation="‖M_f'(x + m) − M_f(x)‖ / ‖M_f(x)‖, f'(x) = f(x − m)",
    better="lower",
    low=0.0,
    high=inf,
    needs="method",
    order=180,
)
def input_shift_variance(explanation: "Explanation", method: str, layer: str, *, shift: float = SHIFT) -> Scores:
    r"""Input invariance (Kindermans et al., 2019, section 2): the change of the map under a compensated input shift.

    .. math:: \lVert M_{f'}(x + m) - M_f(x) \rVert_2 / \lVert M_f(x) \rVert_2, \qquad f'(x) = f(x - m)

    Both networks compute the same, so their maps should be the same. Methods that multiply by the image, or compare it
    with an image of zeros, fail. The paper compares the maps visually; this is the norm of their difference.

    Args:
        explanation: the explanation, with its model unchanged.
        method, layer: the method and the layer of the maps.
        shift: ``m`` as a share of the range of the preprocessed image, the same at every pixel.

    Returns:
        [batch, target] from 0, which is the value of an invariant method up to rounding; lower is better. NaN if a map
        contains NaN.

    Raises:
        InputError: ``shift`` is zero or not finite, or the explanation cannot be rerun.

    >>> import saywhy
    >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    >>> e = saywhy.explain(network, torch.rand(1, 1, 2, 2), 0, "saliency")
    >>> input_shift_variance(e, "saliency", "input")
    tensor([[0.]], dtype=torch.float64)
    """
    shift = validate("shift", shift, NegativeFloat | PositiveFloat)
    rerunner, own = explanation.explainer.of(method), rows_of(explanation[method, layer])
    others = [_explain_shifted(rerunner.sample(sample), shift)[method, layer] for sample in range(len(own))]
    return _relative((rows_of(torch.cat(others)) - own).norm(dim=-1), own)


def _explain_shifted(rerunner: "Explainer[Explanation]", shift: float) -> "Explanation":
    """Explain one shifted image with the network that compensates the shift."""
    image = tree.image_tensor(rerunner.inputs).detach()
    offset = shift * _range(image).squeeze()
    with undoing_shift(rerunner.module, offset) as network:
        return rerunner.explain(image + offset, network)


def _noisy_maps(
    explanation: Any, method: str, layer: str, radius: float, num_samples: int, seed: int
) -> list[MapStack]:
    """Return maps of noisy copies of the images."""
    radius, num_samples = real_number("radius", radius, above=0), whole_number("num_samples", num_samples, 1)
    rerunner, generator = explanation.explainer.of(method), torch.Generator().manual_seed(seed)
    image = tree.image_tensor(rerunner.inputs).detach()
    size, found = radius * _range(image), []
    with counted("adding noise", num_samples) as advance:
        for _ in range(num_samples):
            noise = (2 * torch.rand(image.shape[1:], generator=generator) - 1).to(image)
            found.append(rerunner.explain(image + size * noise)[method, layer].detach())
            advance(1)
    return found


def _range(images: Tensor) -> Tensor:
    """Return maximum less minimum of every image, [batch, 1, …]."""
    low, high = torch.aminmax(images.flatten(1), dim=1)
    return (high - low).view(-1, *[1] * (images.ndim - 1))


def _relative(change: Tensor, maps: Tensor) -> Scores:
    """Divide norms of changes by the norms of maps; a change of zero is 0 even for a map of zeros."""
    return torch.where(change == 0, 0.0, change / maps.norm(dim=-1))
