"""Maps that know nothing of the answer: what a metric gives to them is what its value has to be compared with.

What is random is drawn for every sample and target anew, and the maps of a sample do not change with the samples that
come after it. Pictures that are measured one by one need a seed each (:func:`own_seed`): with one for all, "noise" is a
single map that is wrong about all of them in the same way.
"""

import hashlib
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from saywhy.metrics.human_attention import centre_prior
from saywhy.shapes import MapStack, wide

Pictures = Float[Tensor, "batch channel *pixels"]
"""The network's pictures, of as many axes as the maps, and more pixels than those have cells."""


def own_seed(seed: int, place: int) -> int:
    """The seed of one picture of many, from 0 to 2³² - 1, by its place in the data set.

    >>> own_seed(0, 0) == own_seed(0, 0), own_seed(0, 0) == own_seed(0, 1)
    (True, False)
    """
    return int.from_bytes(hashlib.blake2b(f"{seed} {place}".encode(), digest_size=4).digest(), "big")


def random_like(maps: MapStack, pictures: Pictures, seed: int = 0) -> MapStack:
    """Uniform noise from 0 to 1 on the map's own grid.

    >>> random_like(torch.zeros(1, 2, 3), torch.zeros(1, 3, 9)).shape
    torch.Size([1, 2, 3])
    """
    return torch.rand(maps.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def centre_like(maps: MapStack, pictures: Pictures, seed: int = 0) -> MapStack:
    """A round hill in the middle, for every picture the same.

    >>> centre_like(torch.zeros(1, 1, 3), torch.zeros(1, 3, 9))[0, 0].argmax().item()
    1
    """
    return hill(maps.shape[2:]).expand(maps.shape).clone()


def edges_like(maps: MapStack, pictures: Pictures, seed: int = 0) -> MapStack:
    """An edge detector: the size of the picture's gradient, averaged over channels and the cells of the map's grid.

    >>> edges_like(torch.zeros(1, 1, 3), torch.tensor([[[0.0, 0.0, 0.0, 6.0, 6.0, 6.0]]]))
    tensor([[[0., 3., 0.]]])
    """
    pictures = wide(pictures.detach().cpu())
    squares = torch.zeros_like(pictures)
    for axis in range(2, pictures.ndim):
        if pictures.shape[axis] > 1:
            squares += torch.gradient(pictures, dim=axis)[0].square()
    found = squares.sqrt().mean(1, keepdim=True)
    on_cells = F.interpolate(found, tuple(maps.shape[2:]), mode="area")
    return on_cells.expand(-1, maps.shape[1], *maps.shape[2:]).clone()


def moved(maps: MapStack, pictures: Pictures, seed: int = 0) -> MapStack:
    """The map itself, shifted round the borders and mirrored at random: as smooth and as sparse, and elsewhere.

    >>> moved(torch.tensor([[[0.0, 1.0, 2.0, 3.0]]]), torch.zeros(1, 3, 8), seed=1).sort().values.tolist()
    [[[0.0, 1.0, 2.0, 3.0]]]
    """
    chance = torch.Generator().manual_seed(seed)
    made = []
    for one in maps.detach().cpu().flatten(0, 1):
        mirrored = [axis for axis in range(one.ndim) if int(torch.randint(2, (1,), generator=chance))]
        shifts = [int(torch.randint(side, (1,), generator=chance)) for side in one.shape]
        made.append(one.flip(mirrored).roll(shifts, list(range(one.ndim))))
    return torch.stack(made).unflatten(0, maps.shape[:2])


NULLS: dict[str, Callable[[MapStack, Pictures, int], MapStack]] = {
    "random": random_like,
    "centre": centre_like,
    "edges": edges_like,
}
"""By name, the maps that stand beside every value."""

NULL_NAMES = {"random": "noise", "centre": "a hill in the middle", "edges": "an edge detector"}
"""What they are called on pages."""


def hill(space: Sequence[int]) -> Tensor:
    """A hill in the middle of any number of axes; of two the one of
    :func:`saywhy.metrics.human_attention.centre_prior`.
    """
    if len(space) == 2:
        return centre_prior((space[0], space[1]))
    apart = torch.zeros(tuple(space), dtype=torch.float64)
    for axis, side in enumerate(space):
        along = (2 * torch.arange(side, dtype=torch.float64) + 1 - side) / side
        apart += along.square().view(-1, *[1] * (len(space) - axis - 1))
    return torch.exp(-2 * apart)
