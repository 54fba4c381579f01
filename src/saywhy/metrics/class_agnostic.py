"""Class-agnostic baselines: maps that do not depend on the answer, with which a metric's value has to be compared.

What is random is drawn for every sample and target anew, and the maps of a sample do not change with the samples that
come after it. Images that are measured one by one need a seed each (:func:`sample_seed`): with one for all, "noise"
is a single map that is wrong about all of them in the same way.
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
"""The network's images, of as many axes as the maps, and more pixels than those have cells."""


def sample_seed(seed: int, place: int) -> int:
    """The seed of one image of many, from 0 to 2³² - 1, by its place in the data set.

    >>> sample_seed(0, 0) == sample_seed(0, 0), sample_seed(0, 0) == sample_seed(0, 1)
    (True, False)
    """
    return int.from_bytes(hashlib.blake2b(f"{seed} {place}".encode(), digest_size=4).digest(), "big")


def random_baseline(maps: MapStack, images: InputImages, seed: int = 0) -> MapStack:
    """Uniform noise from 0 to 1 on the map's own grid.

    >>> random_baseline(torch.zeros(1, 2, 3), torch.zeros(1, 3, 9)).shape
    torch.Size([1, 2, 3])
    """
    return torch.rand(maps.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def centre_prior_baseline(maps: MapStack, images: InputImages, seed: int = 0) -> MapStack:
    """A centre prior: highest in the middle, for every image the same.

    >>> centre_prior_baseline(torch.zeros(1, 1, 3), torch.zeros(1, 3, 9))[0, 0].argmax().item()
    1
    """
    return centre_prior_of(maps.shape[2:]).expand(maps.shape).clone()


def edge_detector_baseline(maps: MapStack, images: InputImages, seed: int = 0) -> MapStack:
    """An edge detector: the size of the image's gradient, averaged over channels and the cells of the map's grid.

    >>> edge_detector_baseline(torch.zeros(1, 1, 3), torch.tensor([[[0.0, 0.0, 0.0, 6.0, 6.0, 6.0]]]))
    tensor([[[0., 3., 0.]]])
    """
    images = at_least_float32(images.detach().cpu())
    squares = torch.zeros_like(images)
    for axis in range(2, images.ndim):
        if images.shape[axis] > 1:
            squares += torch.gradient(images, dim=axis)[0].square()
    found = squares.sqrt().mean(1, keepdim=True)
    on_cells = F.interpolate(found, tuple(maps.shape[2:]), mode="area")
    return on_cells.expand(-1, maps.shape[1], *maps.shape[2:]).clone()


def shifted_baseline(maps: MapStack, images: InputImages, seed: int = 0) -> MapStack:
    """The map itself, shifted round the borders and mirrored at random: as smooth and as sparse, and elsewhere.

    >>> shifted_baseline(torch.tensor([[[0.0, 1.0, 2.0, 3.0]]]), torch.zeros(1, 3, 8), seed=1).sort().values.tolist()
    [[[0.0, 1.0, 2.0, 3.0]]]
    """
    generator = torch.Generator().manual_seed(seed)
    made = []
    for one in maps.detach().cpu().flatten(0, 1):
        mirrored = [axis for axis in range(one.ndim) if int(torch.randint(2, (1,), generator=generator))]
        shifts = [int(torch.randint(side, (1,), generator=generator)) for side in one.shape]
        made.append(one.flip(mirrored).roll(shifts, list(range(one.ndim))))
    return torch.stack(made).unflatten(0, maps.shape[:2])


CLASS_AGNOSTIC_BASELINES: dict[str, Callable[[MapStack, InputImages, int], MapStack]] = {
    "random": random_baseline,
    "centre": centre_prior_baseline,
    "edges": edge_detector_baseline,
}
"""By name, the baselines whose values stand beside every value."""

BASELINE_NAMES = {"random": "random map", "centre": "centre prior", "edges": "edge detector"}
"""What they are called on pages."""


def centre_prior_of(space: Sequence[int]) -> Tensor:
    """A centre prior of any number of axes; of two :func:`saywhy.metrics.human_attention.centre_prior`.

    >>> centre_prior_of((3,)).round(decimals=2).tolist()
    [0.41, 1.0, 0.41]
    """
    if len(space) == 2:
        return centre_prior((space[0], space[1]))
    apart = torch.zeros(tuple(space), dtype=torch.float64)
    for axis, side in enumerate(space):
        along = (2 * torch.arange(side, dtype=torch.float64) + 1 - side) / side
        apart += along.square().view(-1, *[1] * (len(space) - axis - 1))
    return torch.exp(-2 * apart)
