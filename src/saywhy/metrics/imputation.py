"""Noisy linear imputation of removed pixels from their neighbours, as in ROAD."""

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

NOISE = 0.01
"""Standard deviation of the noise added to an imputed pixel of a preprocessed image, as in the paper's code."""

NEIGHBOURS = [(a, b, 1 / 6 if a == 0 or b == 0 else 1 / 12) for a in (-1, 0, 1) for b in (-1, 0, 1) if a or b]
"""Row and column offsets of every neighbour and its weight (Rong et al., 2022, section 4)."""


def imputed(
    image: Float[Tensor, "channel height width"], gone: Bool[Tensor, "n height width"], seed: int = 0
) -> Float[Tensor, "n channel height width"]:
    r"""Return n copies of an image, each with other pixels imputed (Rong et al., 2022, section 4).

    .. math:: x_p = \frac{\sum_{q \sim p} w_{pq}\, x_q}{\sum_{q \sim p} w_{pq}} + \varepsilon_p

    solved for all removed pixels at once, without neighbours beyond the border. If all pixels are removed, the image
    becomes its mean colour. The noise of a pixel depends on the seed only, not on other removed pixels or the number of
    copies.

    >>> line, gone = torch.tensor([[[2.0, 9.0, 4.0]]]), torch.tensor([[[False, True, False]]])
    >>> imputed(line, gone).round().tolist()
    [[[[2.0, 3.0, 4.0]]]]
    """
    noise = NOISE * torch.randn(image.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    whole = image.double().cpu()
    copies = [_solve(whole, hidden.numpy()) + noise * hidden for hidden in gone.cpu()]
    return torch.stack(copies).to(image) if copies else image.new_empty(0, *image.shape)


def _solve(image: Tensor, hidden: np.ndarray) -> Tensor:
    """Return the image with every hidden pixel as the weighted mean of its neighbours."""
    if not hidden.any():
        return image.clone()
    if hidden.all():
        return image.mean((1, 2), keepdim=True).expand_as(image).clone()
    from scipy.sparse import coo_array
    from scipy.sparse.linalg import splu

    values = image.numpy()
    height, width = hidden.shape
    rows, columns = np.nonzero(hidden)
    count = len(rows)
    numbers = np.full(hidden.shape, -1)
    numbers[rows, columns] = np.arange(count)
    entries: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    given, total = np.zeros((count, len(values))), np.zeros(count)
    for down, across, weight in NEIGHBOURS:
        at_row, at_column = rows + down, columns + across
        (inside,) = np.nonzero((at_row >= 0) & (at_row < height) & (at_column >= 0) & (at_column < width))
        at_row, at_column = at_row[inside], at_column[inside]
        total[inside] += weight
        unknown = hidden[at_row, at_column]
        entries.append((inside[unknown], numbers[at_row[unknown], at_column[unknown]], np.full(unknown.sum(), -weight)))
        known = inside[~unknown]
        given[known] += weight * values[:, at_row[~unknown], at_column[~unknown]].T
    entries.append((np.arange(count), np.arange(count), total))
    at, of, weights = (np.concatenate(parts) for parts in zip(*entries, strict=True))
    solved = splu(coo_array((weights, (at, of)), shape=(count, count)).tocsc()).solve(given)
    filled = image.clone()
    filled[:, torch.from_numpy(rows), torch.from_numpy(columns)] = torch.from_numpy(solved.T.copy())
    return filled
