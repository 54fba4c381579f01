"""Class-agnostic baselines: maps that do not depend on the class, for comparison with a metric's value.

Random maps are drawn anew for every sample and target, and do not depend on later samples. Images that are measured one
by one need a seed each (:func:`sample_seed`): with one seed for all, every image gets the same random map.
"""

import hashlib
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from saywhy.metrics.human_attention import centre_prior
from saywhy.shapes import MapStack, at_least_float32

InputImages = Float[Tensor, "batch channel *pixels"]
"""The network's images, with as many axes as the maps."""


def sample_seed(seed: int, place: int) -> int:
    """Return the seed of an image, from 0 to 2³² - 1, by its index in the data set.

    >>> sample_seed(0, 0) == sample_seed(0, 0), sample_seed(0, 0) == sample_seed(0, 1)
    (True, False)
    """
    return int.from_bytes(hashlib.blake2b(f"{seed} {place}".encode(), digest_size=4).digest(), "big")


def random_baseline(maps: MapStack, images: InputImages, seed: int = 0) -> MapStack:
    """Return uniform noise from 0 to 1 on the map's own grid.

    >>> random_baseline(torch.zeros(1, 2, 3), torch.zeros(1, 3, 9)).shape
    torch.Size([1, 2, 3])
    """
    return torch.rand(maps.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def centre_prior_baseline(maps: MapStack, images: InputImages, seed: int = 0) -> MapStack:
    """Return a centre prior: highest in the middle, the same for every image.

    >>> centre_prior_baseline(torch.zeros(1, 1, 3), torch.zeros(1, 3, 9))[0, 0].argmax().item()
    1
    """
    return centre_prior_of(maps.shape[2:]).expand(maps.shape).clone()


def edge_detector_baseline(maps: MapStack, images: InputImages, seed: int = 0) -> MapStack:
    """Return an edge detector: magnitudes of the image's gradient, averaged over channels and the cells of the map.

    >>> edge_detector_baseline(torch.zeros(1, 1, 3), torch.tensor([[[0.0, 0.0, 0.0, 6.0, 6.0, 6.0]]]))
    tensor([[[0., 3., 0.]]])
    """
    images = at_least_float32(images.detach().cpu())
    squares = torch.zeros_like(images)
    for axis in range(2, images.ndim):
        if images.shape[axis] > 1:
            squares += torch.gradient(images, dim=axis)[0].square()
    edges = squares.sqrt().mean(1, keepdim=True)
    on_cells = F.interpolate(edges, tuple(maps.shape[2:]), mode="area")
    return on_cells.expand(-1, maps.shape[1], *maps.shape[2:]).clone()


def shifted_baseline(maps: MapStack, images: InputImages, seed: int = 0) -> MapStack:
    """Return the map itself, mirrored and cyclically shifted at random: equally smooth and sparse, but misplaced.

    >>> shifted_baseline(torch.tensor([[[0.0, 1.0, 2.0, 3.0]]]), torch.zeros(1, 3, 8), seed=1).sort().values.tolist()
    [[[0.0, 1.0, 2.0, 3.0]]]
    """
    generator = torch.Generator().manual_seed(seed)
    shifted = []
    for one in maps.detach().cpu().flatten(0, 1):
        mirrored = [axis for axis in range(one.ndim) if int(torch.randint(2, (1,), generator=generator))]
        shifts = [int(torch.randint(side, (1,), generator=generator)) for side in one.shape]
        shifted.append(one.flip(mirrored).roll(shifts, list(range(one.ndim))))
    return torch.stack(shifted).unflatten(0, maps.shape[:2])


CLASS_AGNOSTIC_BASELINES: dict[str, Callable[[MapStack, InputImages, int], MapStack]] = {
    "random": random_baseline,
    "centre": centre_prior_baseline,
    "edges": edge_detector_baseline,
}
"""The baselines whose values are reported with every value, by name."""

BASELINE_NAMES = {"random": "random map", "centre": "centre prior", "edges": "edge detector"}
"""The names of the baselines on pages."""


def centre_prior_of(space: Sequence[int]) -> Tensor:
    """Return a centre prior of any number of axes; for two, :func:`saywhy.metrics.human_attention.centre_prior`.

    >>> centre_prior_of((3,)).round(decimals=2).tolist()
    [0.41, 1.0, 0.41]
    """
    if len(space) == 2:
        return centre_prior((space[0], space[1]))
    distance = torch.zeros(tuple(space), dtype=torch.float64)
    for axis, side in enumerate(space):
        along = (2 * torch.arange(side, dtype=torch.float64) + 1 - side) / side
        distance += along.square().view(-1, *[1] * (len(space) - axis - 1))
    return torch.exp(-2 * distance)
