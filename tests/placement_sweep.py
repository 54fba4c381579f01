"""A sweep of networks that change their image inside ``forward``, over random changes whose placement is known.

Run it as a script: ``python tests/placement_sweep.py 300``. It prints how many layers were placed within one cell, were
refused or told by a Python warning, and were wrong in silence, by the kind of change.
"""

import random
import sys
import warnings
from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

import saywhy
from placed_networks import Patches, SmallViT, search
from saywhy.engine.layers import find_layer
from saywhy.engine.layout import Layout

Ends = tuple[float, float]
Change = tuple[Callable[[Tensor], Tensor], tuple[Ends, Ends]]
"""A change of the image, and the ends of what it leaves along both axes, as shares of the image's size."""


class Body(nn.Module):
    """A network after a change of its image: strided convolutions, a stack with pooling, patches, or a transformer."""

    def __init__(self, kind: str, change: Callable[[Tensor], Tensor], side: tuple[int, int]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.change = change
        if kind == "strided":
            self.body: nn.Module = nn.Sequential(*(nn.Conv2d(a, 16, 3, 2, 1) for a in (3, 16, 16)), nn.ReLU())
        elif kind == "pooled":
            stages = [nn.Sequential(nn.Conv2d(a, 16, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2)) for a in (3, 16, 16)]
            self.body = nn.Sequential(*stages, nn.Conv2d(16, 16, 3, 1, 1), nn.ReLU())
        elif kind == "patches":
            self._patches = [Patches((side[0] // 8, side[1] // 8), 8, 16)]
            self.body = nn.Sequential(nn.Softplus())
        else:
            self.body = SmallViT(class_token=kind == "class token")
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.change(x)
        if isinstance(self.body, SmallViT):
            return self.body(x)  # type: ignore[no-any-return]
        x = self._patches[0](x) if hasattr(self, "_patches") else x
        return self.head(self.body(x).mean((2, 3)))  # type: ignore[no-any-return]


KINDS = ("strided", "pooled", "patches", "mean of tokens", "class token")
CHANGES = ("crop", "crop of one axis", "pad", "letterbox", "resized crop", "mirrored crop", "none")


def variation(seed: int) -> tuple[str, str, tuple[int, int], tuple[int, int], Change]:
    """Kind of the change and of the network, the size of the image and of what is left of it, and the change."""
    rng = random.Random(seed)
    what, kind = CHANGES[seed % len(CHANGES)], rng.choice(KINDS)
    size = (8 * rng.randint(8, 20), 8 * rng.randint(8, 20))
    ends = [(0, n) for n in size]
    flip = False
    out = None
    if "crop" in what:
        for axis in (0, 1):
            if what == "crop of one axis" and axis != seed // 7 % 2:
                continue
            length = max(16, 8 * round(size[axis] * rng.uniform(0.2, 0.9) / 8))
            start = rng.randint(0, size[axis] - length)
            ends[axis] = (start, start + length)
        flip = what.startswith("mirrored")
        out = (8 * rng.randint(6, 14), 8 * rng.randint(6, 14)) if what.startswith("resized") else None
    elif what == "pad":
        ends = [(-8 * rng.randint(0, 6) + rng.randint(0, 7), n) for n in size]
        ends = [(low, low + 8 * -(-(high - low) // 8) + 8 * rng.randint(0, 4)) for low, high in ends]
    elif what == "letterbox":
        side = max(size)
        ends = [(-((side - n) // 2), -((side - n) // 2) + side) for n in size]
        out = (8 * rng.randint(8, 14),) * 2

    def change(x: Tensor) -> Tensor:
        (top, bottom), (left, right) = ends
        x = pad(x, (-left, right - x.shape[3], -top, bottom - x.shape[2]))
        x = interpolate(x, out, mode="bilinear", antialias=True) if out is not None else x
        return x.flip(3) if flip else x

    shares = [(low / n, high / n) for (low, high), n in zip(ends, size, strict=True)]
    truth = (shares[0], shares[1][::-1] if flip else shares[1])
    left_of = out or tuple(high - low for low, high in ends)
    return what, kind, size, left_of, (change, truth)  # type: ignore[return-value]


def off_by(layout: Layout, truth: tuple[Ends, Ends]) -> float:
    """How far the centre of any cell that lies on the image is from its true place, in true cells."""
    worst = 0.0
    low, high = (layout.placement.low, layout.placement.high) if layout.placement else ((0.0, 0.0), (1.0, 1.0))
    for axis, ((a, b), cells) in enumerate(zip(truth, layout.grid, strict=True)):
        for cell in range(cells):
            share = (cell + 0.5) / cells
            true, found = a + (b - a) * share, low[axis] + (high[axis] - low[axis]) * share
            if 0 <= true <= 1:
                worst = max(worst, abs(true - found) * cells / abs(b - a))
    return worst


def outcome(seed: int) -> tuple[str, str, str, float, str]:
    """Kind of change and network, "placed", "told", "refused" or "wrong", how far off in cells, and the layer."""
    what, kind, size, left, (change, truth) = variation(seed)
    network = Body(kind, change, left).eval()
    image = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(seed))
    try:
        candidate = find_layer(search(network, image))
    except saywhy.errors.SaywhyError as error:
        return what, kind, "refused", 0.0, str(error)[:60]
    off = off_by(candidate.proof.layout, truth)
    if off <= 1:
        return what, kind, "placed", off, f"{candidate.name} {candidate.proof}"
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        saywhy.explain(network, image, None, "gradcam", relu=False)
    said = [w for w in told if issubclass(w.category, saywhy.errors.SaywhyWarning)]
    return what, kind, "told" if said else "wrong", off, f"{candidate.name} {candidate.proof}"


def main(count: int, first: int = 0) -> None:
    """Print the counts, and every layer that was wrong in silence."""
    found: Counter[tuple[str, str]] = Counter()
    for seed in range(first, first + count):
        what, kind, how, off, layer = outcome(seed)
        found[what, how] += 1
        if how == "wrong":
            _, _, size, _, (_, truth) = variation(seed)
            shown = " × ".join(f"{a:.2f} to {b:.2f}" for a, b in truth)
            print(f"seed {seed}: {what}, {kind}, image {size}, true {shown}, {off:.2f} cells off: {layer}")
    print(f"{'change':>18} placed   told  refused  wrong")
    for what in CHANGES:
        print(f"{what:>18}", *(f"{found[what, how]:7}" for how in ("placed", "told", "refused", "wrong")))
    print(f"{'all':>18}", *(f"{sum(found[w, h] for w in CHANGES):7}" for h in ("placed", "told", "refused", "wrong")))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:] or ["70"]))
