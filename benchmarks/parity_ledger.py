"""Writes docs/parity.md: how far every method is from its published equation, and how far other packages are.

Run it as ``python benchmarks/parity_ledger.py``; it needs the packages grad-cam, torchcam, captum and timm. The
equations in plain float64 loops are those of ``tests/oracles``, the networks and the way the maps of other packages
are taken those of ``tests/parity``.
"""

import copy
import sys
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from torch import Tensor

import saywhy
from saywhy.methods import METHODS
from saywhy.view.atomic import written_whole

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY / "tests"))

from oracles import ORACLES  # noqa: E402  the tests are no package
from oracles.networks import TinyNetwork  # noqa: E402
from parity import peers  # noqa: E402
from parity.cases import CASES, CONVOLUTIONAL, Case, build, scaled  # noqa: E402

SIGNLESS = ("eigencam", "eigengradcam", "kpcacam")
"""Components of which pytorch-grad-cam leaves the sign to the linear-algebra library."""

PEERS = {"grad-cam": "pytorch-grad-cam", "torchcam": "torchcam", "captum": "captum"}

# Why a package differs; the tests in tests/parity show each of these.
WHY = {
    ("gradcam++", "grad-cam"): (
        "adds 1e-6 to the denominator of equation 19, which is of the size of the squared gradient: exact where "
        "gradients are large, another method where they are small (second table)."
    ),
    ("gradcam++", "torchcam"): (
        "never divides: the in-place division works on a copy of the masked tensor (`alpha[idx][mask].div_(...)`), so "
        "that the weights are the sums of the cubes of the positive gradients. Behind it the cube is inside the sum of "
        "the denominator, where equation 19 has the sum of the activations times the cube."
    ),
    ("eigencam", "grad-cam"): (
        "subtracts each channel's mean before the decomposition, which the paper does not, and leaves the sign of the "
        "component to the linear-algebra library. `center=True` gives its map, up to that sign."
    ),
    ("eigengradcam", "grad-cam"): (
        "the same: it centres, and the sign is the library's. `center=True` gives its map, up to that sign."
    ),
    ("fem", "grad-cam"): (
        "adds up channels, each weighted by the share of positions above its threshold; the paper adds up the masks of "
        "what is above, each weighted by its channel's mean. `variant='share'` gives its map."
    ),
    ("gradcam", "captum"): (
        "on transformers it averages over the embedding and sums over tokens, and returns a row as long as the "
        "embedding without an error; only feature maps are compared here. Its ReLU is off unless asked for."
    ),
}


def unit(maps: Tensor) -> Tensor:
    """Every map [height, width] divided by its largest magnitude; zero stays zero."""
    largest = maps.double().abs().flatten(1).amax(1)[:, None, None]
    return maps.double() / torch.where(largest > 0, largest, 1.0)


def distance(one: Tensor, other: Tensor) -> float:
    """The largest difference of two maps, each divided by its own maximum."""
    return float((unit(one) - unit(other)).abs().max())


def equation(case: Case, method: str) -> Tensor:
    """The published equation in float64 loops, of a network's activations and gradients."""
    A, G = (t.double().numpy() for t in case.captured())
    return torch.from_numpy(np.stack([ORACLES[method](a, g) for a, g in zip(A, G, strict=True)]))


def with_either_sign(maps: Tensor, wanted: Tensor) -> Tensor:
    """A component has no sign: whichever is nearer, map by map."""

    def nearer(one: Tensor, to: Tensor) -> Tensor:
        return min((one.relu(), (-one).relu()), key=lambda side: distance(side[None], to[None]))

    return torch.stack([nearer(one, to) for one, to in zip(maps, wanted, strict=True)])


def theirs(package: str, method: str, case: Case, wanted: Tensor) -> Tensor | None:
    """The map of another package, or None where it has no such method for such a network."""
    classes = list(case.classes)
    if package == "grad-cam" and method in peers.GRAD_CAM:
        found = peers.grad_cam(method, case.network, case.layer, case.inputs, classes, case.reshape)
        return with_either_sign(found, wanted) if method in SIGNLESS else found.relu()
    if case.reshape is not None:
        return None
    if package == "torchcam" and method in peers.TORCHCAM:
        return peers.torchcam(method, case.network, case.layer, case.inputs, classes)
    if package == "captum" and method == "gradcam":
        return peers.captum(case.network, case.layer, case.inputs, classes)[:, 0]
    return None


def row(method: str, cases: Iterable[Case]) -> list[str]:
    """One line of the first table: the largest distance over all networks."""
    ours, others = 0.0, dict.fromkeys(PEERS, -1.0)
    for case in cases:
        wanted = equation(case, method)
        ours = max(ours, distance(case.maps(method), wanted))
        for package in PEERS:
            found = theirs(package, method, case, wanted)
            if found is not None:
                others[package] = max(others[package], distance(found, wanted))
    entry = METHODS[method]
    cells = [written(v) if v >= 0 else "" for v in others.values()]
    return [f"`{method}`", entry.paper, entry.equation.replace("|", r"\|"), written(ours), *cells]


def networks_for(method: str) -> tuple[str, ...]:
    """CAM is defined for one of these networks alone."""
    return ("resnet18",) if method == "cam" else CASES


def units() -> list[list[str]]:
    """The second table: the same network with its score, or its activations, in other units."""
    lines = []
    for head in (1e3, 1.0, 1e-2, 1e-4):
        case = scaled(build("resnet18"), head)
        wanted = equation(case, "gradcam++")
        others = [theirs(p, "gradcam++", case, wanted) for p in ("grad-cam", "torchcam")]
        cells = [written(distance(m, wanted)) for m in (case.maps("gradcam++"), *others) if m is not None]
        lines.append(["`gradcam++`", f"score × {head:g}", *cells])
    inputs, classes = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(0)), [0, 2]
    for factor in (1.0, 1e-6, 1e-8):
        network = copy.deepcopy(TinyNetwork.build(head="linear"))
        with torch.no_grad():
            for parameter in network.features.parameters():
                parameter.mul_(factor)
        layout = saywhy.Layout("channels-first", (6, 6))
        case = Case("tiny", network, "features", inputs, layout, classes=tuple(classes))
        wanted = equation(case, "xgradcam")
        others = [theirs(p, "xgradcam", case, wanted) for p in ("grad-cam", "torchcam")]
        cells = [written(distance(m, wanted)) for m in (case.maps("xgradcam"), *others) if m is not None]
        lines.append(["`xgradcam`", f"activations × {factor:g}", *cells])
    return lines


def written(value: float) -> str:
    """A distance with as many digits as it is worth.

    >>> written(4.2e-7), written(0.0), written(0.0687)
    ('4e-07', '0', '0.069')
    """
    if value == 0:
        return "0"
    return f"{value:.0e}" if value < 1e-3 else f"{value:.2g}"


def table(head: list[str], lines: Iterable[list[str]]) -> str:
    """A table in Markdown."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *lines))


def page(progress: Callable[[str], None]) -> str:
    """The whole page."""
    lines = []
    for method in (name for name, m in METHODS.items() if m.passes == "one" and m.at == "layer"):
        progress(method)
        lines.append(row(method, [build(name) for name in networks_for(method)]))
    packages = ", ".join(f"{PEERS[name]} {version(name)}" for name in PEERS)
    reasons = "\n".join(f"- `{method}` of {PEERS[package]}: {why}" for (method, package), why in WHY.items())
    return f"""# The parity ledger

Generated by `python benchmarks/parity_ledger.py`; do not edit. torch {version("torch").split("+")[0]}, {packages}.

For every method of one pass at a layer: its published equation, how far our float32 maps are from that equation
computed in plain float64 loops (`tests/oracles`), and how far the maps of other packages are. Maps are raw, on the
layer's own grid, each divided by its own maximum; the number is the largest difference at any position of any map (1 is
a map's whole range). An empty cell: the package has no such method.

Networks: {", ".join(CASES)}, with random weights, two pictures each, asked for their own top classes; torchcam and
captum on {", ".join(CONVOLUTIONAL)}; CAM on resnet18.

{table(["method", "paper", "equation", "saywhy", *PEERS.values()], lines)}

## Where a package differs, and why

{reasons}

## The same network in other units

An absolute epsilon in a denominator is a unit of its own. Grad-CAM++ is compared with its equation at each scale (the
published equation is itself not free of scale); XGrad-CAM's is free of scale, so that every row should be the first.
`xgradcam` of pytorch-grad-cam adds 1e-7 to the sum of a channel's activations, that of torchcam 1e-8.

{table(["method", "units", "saywhy", "pytorch-grad-cam", "torchcam"], units())}
"""


def main(
    out: Annotated[Path, typer.Option(help="The page to write.")] = REPOSITORY / "docs" / "parity.md",
) -> None:
    """Measure, and write the page."""
    torch.set_num_threads(1)
    missing = [name for name in ("pytorch_grad_cam", "torchcam", "captum", "timm") if not peers.available(name)]
    if missing:
        raise typer.BadParameter(f"these packages are not installed: {', '.join(missing)}. pip install 'saywhy[bench]'")
    text = page(lambda method: typer.echo(f"{method} …", err=True))
    out.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(out) as whole:
        whole.write_text(text, encoding="utf-8")
    typer.echo(f"wrote {out}")


if __name__ == "__main__":
    typer.run(main)
