r"""How maps change when the image does, a little: sensitivity to noise, and to a shift that the network undoes.

These evaluate a method on an image and not one map: they rerun the explanation on other images. Norms are
relative to that of the map, so that units do not count; where the map is zero, a change of it is infinite. Every
image is evaluated as if it were alone: the same noise is added to all of a batch, drawn for one image of that size.
"""

import math
from math import inf
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from saywhy.engine import tree
from saywhy.engine.shift import undoing_shift
from saywhy.errors import InputError
from saywhy.explanation import Explainer
from saywhy.metrics.human_attention import rank_correlation
from saywhy.metrics.registry import metric
from saywhy.progress import counted
from saywhy.shapes import MapStack, Scores, rows_of

if TYPE_CHECKING:
    from saywhy.explanation import Explanation

RADIUS = 0.02
"""Of noise, as a share of the image's range."""

NUM_SAMPLES = 8
"""Noisy copies of the image."""

SHIFT = 0.1
"""Of a constant shift, as a share of the image's range."""


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

    by so many draws of uniform noise.

    Differs from captum's ``sensitivity_max`` and quantus's ``MaxSensitivity``, whose radius is in units of the image;
    where the map is zero captum divides by 1, and this is infinite.

    Args:
        explanation: with its model as it was.
        method, layer: which maps.
        radius: of the noise, as a share of the range of the preprocessed image, from its lowest value to its highest.
        num_samples: the more, the nearer to the maximum, from below.
        seed: of the noise. Whatever the method itself draws stays the same.

    Returns:
        [batch, target] from 0; lower is better. NaN where a map is.

    Raises:
        InputError: ``radius`` or ``num_samples`` is not positive, or the explanation cannot be rerun.

    >>> import saywhy
    >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    >>> e = saywhy.explain(network, torch.rand(1, 1, 2, 2), 0, "saliency")
    >>> max_sensitivity(e, "saliency", "input")  # of a linear network: its weights, whatever the image
    tensor([[0.]], dtype=torch.float64)
    """
    own = rows_of(explanation[method, layer])
    changes = [(rows_of(m) - own).norm(dim=-1) for m in _noisy(explanation, method, layer, radius, num_samples, seed)]
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
    """The mean rank correlation of the map with those of noisy copies of the image (a measure of ours).

    Args, errors: as for :func:`max_sensitivity`.

    Returns:
        [batch, target] from -1 to 1, 0 for a map that is the same everywhere; higher is better.

    >>> import saywhy
    >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    >>> e = saywhy.explain(network, torch.rand(1, 1, 2, 2), 0, "saliency")
    >>> stability(e, "saliency", "input")  # of a linear network: its weights, whatever the image
    tensor([[1.]], dtype=torch.float64)
    """
    own = rows_of(explanation[method, layer])
    found = [rank_correlation(rows_of(m), own) for m in _noisy(explanation, method, layer, radius, num_samples, seed)]
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
    r"""Input invariance (Kindermans et al., 2019, section 2): what changes when only the zero of the images does.

    .. math:: \lVert M_{f'}(x + m) - M_f(x) \rVert_2 / \lVert M_f(x) \rVert_2, \qquad f'(x) = f(x - m)

    Both networks do the same at every step, so a map of what they do should be the same. Methods that multiply by the
    image, or compare it with an image of zeros, fail. The paper looks at the maps; this is by how much they differ.

    Args:
        explanation: with its model as it was.
        method, layer: which maps.
        shift: ``m`` as a share of the range of the preprocessed image, the same at every pixel.

    Returns:
        [batch, target] from 0, which is to rounding what an invariant method has; lower is better. NaN where a map is.

    Raises:
        InputError: ``shift`` is zero or not finite, or the explanation cannot be rerun.

    >>> import saywhy
    >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    >>> e = saywhy.explain(network, torch.rand(1, 1, 2, 2), 0, "saliency")
    >>> input_shift_variance(e, "saliency", "input")
    tensor([[0.]], dtype=torch.float64)
    """
    if not math.isfinite(shift) or not shift:
        raise InputError(f"shift is a share of the image's range, other than 0, got {shift!r}.")
    rerunner, own = explanation.explainer.of(method), rows_of(explanation[method, layer])
    others = [_shifted(rerunner.sample(sample), shift)[method, layer] for sample in range(len(own))]
    return _relative((rows_of(torch.cat(others)) - own).norm(dim=-1), own)


def _shifted(rerunner: Explainer, shift: float) -> "Explanation":
    """The explanation of one image with another zero, by a network that has that zero."""
    image = tree.image_tensor(rerunner.inputs).detach()
    offset = shift * _range(image).squeeze()
    with undoing_shift(rerunner.module, offset) as network:
        return rerunner.explain(image + offset, network)


def _noisy(explanation: Any, method: str, layer: str, radius: float, num_samples: int, seed: int) -> list[MapStack]:
    """Maps of noisy copies of the images."""
    if not 0 < radius < math.inf:
        raise InputError(f"radius is a share of the image's range, above 0, got {radius!r}.")
    if isinstance(num_samples, bool) or not isinstance(num_samples, int) or num_samples < 1:
        raise InputError(f"num_samples must be a whole number of at least 1, got {num_samples!r}.")
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
    """Largest less smallest value of every image, [batch, 1, …]."""
    low, high = torch.aminmax(images.flatten(1), dim=1)
    return (high - low).view(-1, *[1] * (images.ndim - 1))


def _relative(change: Tensor, maps: Tensor) -> Scores:
    """Norms of changes as shares of the norms of maps; nothing is no change of nothing."""
    return torch.where(change == 0, 0.0, change / maps.norm(dim=-1))
