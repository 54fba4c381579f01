"""How far maps agree, and how far they move when the image or the network does, in slow loops of float64.

Random inputs (noise, randomized networks) are handed in, and so is the function that makes a map of an image.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy.optimize import linprog
from torch import Tensor, nn

from oracles.observed import Array
from oracles.registry import metric_oracle

ExplanationLike = Callable[[Array], Array]
"""From an image [channel, *space] to its map [*space]."""


class Shifted(nn.Module):
    """``f'(x) = f(x - m)``, written down as a network."""

    def __init__(self, network: nn.Module, offset: float) -> None:
        super().__init__()
        self.network, self.offset = network, offset

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images - self.offset)


def norm(values: Array) -> float:
    return math.sqrt(math.fsum(float(values[p]) ** 2 for p in np.ndindex(*values.shape)))


def change(first: Array, second: Array) -> float:
    """The norm of the difference over that of the first; nothing is no change of nothing."""
    moved, size = norm(second - first), norm(first)
    return 0.0 if moved == 0 else math.inf if size == 0 else moved / size


def data_range(image: Array) -> float:
    return max(float(v) for v in image.flat) - min(float(v) for v in image.flat)


@metric_oracle("max-sensitivity")
def max_sensitivity(explained: ExplanationLike, image: Array, *, noises: Sequence[Array], radius: float) -> float:
    """Yeh et al., 2019, definition 2.3, over the noises (from -1 to 1) that are handed in."""
    own = explained(image)
    return max(change(own, explained(image + radius * data_range(image) * noise)) for noise in noises)


@metric_oracle("stability")
def stability(explained: ExplanationLike, image: Array, *, noises: Sequence[Array], radius: float) -> float:
    own = explained(image)
    found = [spearman(own, explained(image + radius * data_range(image) * noise)) for noise in noises]
    return math.fsum(found) / len(found)


@metric_oracle("input-shift-variance")
def input_shift(explained: ExplanationLike, moved: ExplanationLike, image: Array, *, offset: float) -> float:
    """Kindermans et al., 2019, section 2; ``moved`` explains by the network that takes the offset off again."""
    return change(explained(image), moved(image + offset))


@metric_oracle("parameter-randomization")
def stages(own: Array, later: Sequence[Array]) -> list[float]:
    """Adebayo et al., 2018, section 3.1: the magnitude of the rank correlation, stage by stage."""
    return [abs(spearman(own, one)) for one in later]


@metric_oracle("completeness-error")
def completeness_error(parts: Array, change: float) -> float:
    """Sundararajan et al., 2017, section 3: the parts add up to the change of the score; by what share of it not."""
    return abs(math.fsum(parts.flat) - change) / abs(change)


@metric_oracle("random-logit", "data-randomization")
def spearman(first: Array, second: Array) -> float:
    """Pearson's correlation of ranks that equal values share; 0 where one side has no ranks."""
    a, b = places(first), places(second)
    mean = (len(a) + 1) / 2
    above = math.fsum((r - mean) * (s - mean) for r, s in zip(a, b, strict=True))
    below = math.fsum((r - mean) ** 2 for r in a) * math.fsum((s - mean) ** 2 for s in b)
    return above / math.sqrt(below) if below else 0.0


def places(values: Array) -> list[float]:
    cells = [float(v) for v in values.flat]
    return [sum(w < v for w in cells) + (1 + sum(w == v for w in cells)) / 2 for v in cells]


def ssim(first: Array, second: Array, *, side: int = 11, sigma: float = 1.5) -> float:
    """Wang et al., 2004, equation 13, of maps that are divided by their largest magnitudes; the mean over windows."""
    x, y = (one / max(abs(float(v)) for v in one.flat) if one.any() else one for one in (first, second))
    data_range = 2.0 if min(x.min(), y.min()) < 0 else 1.0
    side = min(side, *(n if n % 2 else n - 1 for n in x.shape))
    half = side // 2
    weights = {
        (i, j): math.exp(-(i * i + j * j) / (2 * sigma**2))
        for i in range(-half, half + 1)
        for j in range(-half, half + 1)
    }
    total = math.fsum(weights.values())
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    found = []
    for row in range(half, x.shape[0] - half):
        for column in range(half, x.shape[1] - half):
            cells = [(w / total, x[row + i, column + j], y[row + i, column + j]) for (i, j), w in weights.items()]
            mx, my = math.fsum(w * a for w, a, _ in cells), math.fsum(w * b for w, _, b in cells)
            vx = math.fsum(w * (a - mx) ** 2 for w, a, _ in cells)
            vy = math.fsum(w * (b - my) ** 2 for w, _, b in cells)
            vxy = math.fsum(w * (a - mx) * (b - my) for w, a, b in cells)
            alike = (2 * mx * my + c1) / (mx**2 + my**2 + c1)
            found.append(alike * (2 * vxy + c2) / (vx + vy + c2))
    return math.fsum(found) / len(found)


def earth_movers_distance(first: Array, second: Array) -> float:
    """Rubner et al., 2000, equation 1: the cheapest flow from one heap to the other, as a linear programme.

    Cells are as far apart as their middles, in sides of the map.
    """
    rows, columns = first.shape
    cells = [((i + 0.5) / rows, (j + 0.5) / columns) for i in range(rows) for j in range(columns)]
    count = len(cells)
    costs = [math.dist(one, other) for one in cells for other in cells]
    leaves, comes = np.zeros((count, count * count)), np.zeros((count, count * count))
    for a in range(count):
        for b in range(count):
            leaves[a, a * count + b] = comes[b, a * count + b] = 1
    heaps = [heap(first), heap(second)]
    found = linprog(costs, A_eq=np.concatenate([leaves, comes]), b_eq=np.concatenate(heaps), method="highs")
    assert found.status == 0
    return float(found.fun)


def heap(values: Array) -> Array:
    """Positive parts that add up to 1; where there are none, all alike."""
    positive = np.array([max(0.0, float(v)) for v in values.flat])
    return positive / positive.sum() if positive.any() else np.full(len(positive), 1 / len(positive))
