"""Writes docs/parity.md: how far every method is from its published equation, and how far other packages are.

Run it as ``python -m research.benchmarks.parity_ledger``; it needs the packages grad-cam, torchcam, captum, zennit and
timm. The equations in plain float64 loops are those of ``tests/oracles``, their settings those of ``tests/methods``,
the networks and the way the maps of other packages are taken those of ``tests/parity``.
"""

import copy
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import Tensor

import saywhy
from saywhy.io.atomic import atomic_write
from saywhy.methods import METHODS

REPOSITORY = Path(__file__).parents[2]
sys.path[:0] = [str(REPOSITORY / "tests"), str(REPOSITORY / "tests" / "methods")]

from test_runs import SETTINGS, asked, for_oracle  # noqa: E402

from kinds import ATTENTION, HEADS  # noqa: E402  the tests are no package
from oracles import ORACLES, RUN_ORACLES  # noqa: E402
from oracles.networks import TinyNetwork, TinyTransformer  # noqa: E402
from oracles.observed import Observed  # noqa: E402
from parity import peers  # noqa: E402
from parity.cases import CASES, CONVOLUTIONAL, Case, build, distance, equation, scaled  # noqa: E402
from parity.runs import PEERS as RUNS  # noqa: E402

SIGNLESS = ("eigencam", "eigengradcam", "kpcacam")
"""Components of which pytorch-grad-cam leaves the sign to the linear-algebra library."""

PEERS = {"grad-cam": "pytorch-grad-cam", "torchcam": "torchcam", "captum": "captum"}
ALL_PEERS = {**PEERS, "zennit": "zennit"}

# Why a package differs; the tests in tests/parity show each of these.
WHY = {
    ("gradcam++", "grad-cam"): (
        "adds 1e-6 to the denominator of equation 19, which is of the size of the squared gradient: exact where "
        "gradients are large, another method where they are small (next table)."
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


def with_either_sign(maps: Tensor, wanted: Tensor) -> Tensor:
    """A component has no sign: whichever is nearer, map by map."""

    def nearer(one: Tensor, to: Tensor) -> Tensor:
        return min((one.relu(), (-one).relu()), key=lambda side: distance(side[None], to[None]))

    return torch.stack([nearer(one, to) for one, to in zip(maps, wanted, strict=True)])


def peer_maps(package: str, method: str, case: Case, wanted: Tensor) -> Tensor | None:
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
            found = peer_maps(package, method, case, wanted)
            if found is not None:
                others[package] = max(others[package], distance(found, wanted))
    cells = [formatted(v) if v >= 0 else "" for v in others.values()]
    return [f"`{method}`", METHODS[method].paper, in_a_cell(METHODS[method].equation), formatted(ours), *cells]


def networks_for(method: str) -> tuple[str, ...]:
    """CAM is defined for one of these networks alone."""
    return ("resnet18",) if method == "cam" else CASES


def units() -> list[list[str]]:
    """The second table: the same network with its score, or its activations, in other units."""
    lines = []
    for head in (1e3, 1.0, 1e-2, 1e-4):
        case = scaled(build("resnet18"), head)
        wanted = equation(case, "gradcam++")
        others = [peer_maps(p, "gradcam++", case, wanted) for p in ("grad-cam", "torchcam")]
        cells = [formatted(distance(m, wanted)) for m in (case.maps("gradcam++"), *others) if m is not None]
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
        others = [peer_maps(p, "xgradcam", case, wanted) for p in ("grad-cam", "torchcam")]
        cells = [formatted(distance(m, wanted)) for m in (case.maps("xgradcam"), *others) if m is not None]
        lines.append(["`xgradcam`", f"activations × {factor:g}", *cells])
    return lines


def runs_row(method: str) -> list[str]:
    """One line of the last table."""
    ours = max(distance(*pair) for pair in oracle_pairs(method))
    cells = []
    for package in ALL_PEERS:
        found: dict[bool, float] = {}
        for peer in (p for p in RUNS.get(method, ()) if p.package == package):
            most = max(distance(peer.ours(case), peer.peer_maps(case).detach()) for case in peer.cases())
            found[peer.same] = max(most, found.get(peer.same, 0.0))
        cells.append(" / ".join(f"**{formatted(v)}**" if not same else formatted(v) for same, v in found.items()))
    return [f"`{method}`", METHODS[method].paper, in_a_cell(METHODS[method].equation), formatted(ours), *cells]


def oracle_pairs(method: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Our float32 maps and those of the oracle, [1, height, width]: all settings of the tests, images and targets."""
    network = network_for(method)
    layout = (
        saywhy.Layout("tokens", (6, 6), prefix=1) if method in ATTENTION else saywhy.Layout("channels-first", (6, 6))
    )
    images = torch.from_numpy(np.random.default_rng(6).standard_normal((2, 3, 12, 12))).float()
    double = copy.deepcopy(network).double()
    for settings in SETTINGS.get(method, [{}]):
        for score in ("logit", "probability"):
            found = saywhy.explain(
                network, images, [1, 2], method, "features", score=score, layout=layout, **asked(settings)
            ).maps
            for t, target in enumerate((1, 2)):
                observed = Observed(double, double.features, score_function(score, target))
                for b, image in enumerate(images.double().numpy()):
                    yield found[b, t][None], torch.from_numpy(oracle(method, settings, observed, image))[None]


def oracle(method: str, settings: dict[str, Any], observed: Observed, image: np.ndarray) -> np.ndarray:
    """The published equation in float64 loops."""
    if method in RUN_ORACLES:
        return RUN_ORACLES[method](observed, image, **for_oracle(method, settings, image))
    x, gradient, _ = observed.at_image(image)
    return ORACLES[method](x, gradient, **settings)


def network_for(method: str) -> TinyNetwork | TinyTransformer:
    """A network of a few hundred weights on which the method is defined."""
    if method in ATTENTION:
        return TinyTransformer.build()
    return TinyNetwork.build(head=HEADS.get(method, "mlp"))


def score_function(score: str, target: int) -> Callable[[Tensor], Tensor]:
    """From the output to the score of a class."""
    return lambda output: (output.softmax(1) if score == "probability" else output)[:, target]


def reasons() -> list[str]:
    """Why other packages differ from methods of several passes, or agree at some settings only; each said once."""
    said: dict[str, tuple[list[str], list[str]]] = {}
    for method, some in RUNS.items():
        for peer in some:
            if peer.note:
                methods, packages = said.setdefault(peer.note, ([], []))
                methods.append(f"`{method}`")
                packages.append(ALL_PEERS[peer.package])
    return [f"- {', '.join(dict.fromkeys(m))} of {', '.join(dict.fromkeys(p))}: {why}" for why, (m, p) in said.items()]


def in_a_cell(text: str) -> str:
    """A text whose bars do not end a cell of a table."""
    return text.replace("|", r"\|")


def formatted(value: float) -> str:
    """A distance with as many digits as it is worth.

    >>> formatted(4.2e-7), formatted(0.0), formatted(0.0687)
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
    once, runs = [], []
    for method, entry in METHODS.items():
        progress(method)
        if entry.passes == "one" and entry.at == "layer":
            once.append(row(method, [build(name) for name in networks_for(method)]))
        else:
            runs.append(runs_row(method))
    packages = ", ".join(f"{shown} {version(name)}" for name, shown in ALL_PEERS.items())
    why = "\n".join(f"- `{method}` of {PEERS[package]}: {text}" for (method, package), text in WHY.items())
    alone = ", ".join(line[0] for line in runs if line[0].strip("`") not in RUNS)
    return f"""# The parity ledger

Generated by `python -m research.benchmarks.parity_ledger`; do not edit. torch {version("torch").split("+")[0]},
{packages}.

For every method its published equation, and how far our float32 maps are from that equation computed in plain float64
loops (`tests/oracles`). Maps are raw, each divided by its own maximum; a number is the largest difference at any
position of any map (1 is a map's whole range). An empty cell: the package has no such method.

## One pass at a layer

How far the maps of other packages are from the equation, on the layer's own grid. Networks: {", ".join(CASES)}, with
random weights, two images each, asked for their own top classes; torchcam and captum on {", ".join(CONVOLUTIONAL)};
CAM on resnet18.

{table(["method", "paper", "equation", "saywhy", *PEERS.values()], once)}

Where a package differs, and why:

{why}

## The same network in other units

An absolute epsilon in a denominator is a unit of its own. Grad-CAM++ is compared with its equation at each scale (the
published equation is itself not free of scale); XGrad-CAM's is free of scale, so that every row should be the first.
`xgradcam` of pytorch-grad-cam adds 1e-7 to the sum of a channel's activations, that of torchcam 1e-8.

{table(["method", "units", "saywhy", "pytorch-grad-cam", "torchcam"], units())}

## Several passes, or the image itself

*saywhy* is the distance from the equation on networks of a few hundred weights, the largest over the settings of
`tests/methods/test_runs.py`, of logits and of probabilities. A method that subtracts two scores loses the digits that
they share, of the seven that float32 has.

The other columns are the distance between another package's maps and ours, on networks of torchvision with random
weights, at settings at which both are the same equation (all of them in `tests/parity/runs.py`); **bold** where they
ought to be and are not.

{table(["method", "paper", "equation", "saywhy", *ALL_PEERS.values()], runs)}

No peer: none of these packages has {alone}; their equation is their only judge. The attention that is read is compared
with what transformers, timm and torchvision give themselves (`tests/parity/test_attention.py`). The `LRP` of captum is
not compared: a batch norm is a layer of its own there.

Where a package differs, or is the same at some settings only:

{chr(10).join(reasons())}
"""


def main(
    out: Annotated[Path, typer.Option(help="The page to write.")] = REPOSITORY / "docs" / "parity.md",
) -> None:
    """Measure, and write the page."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of hooks and graphs, by other packages
    missing = [
        name for name in ("pytorch_grad_cam", "torchcam", "captum", "zennit", "timm") if not peers.available(name)
    ]
    if missing:
        raise typer.BadParameter(f"these packages are not installed: {', '.join(missing)}. pip install 'saywhy[bench]'")
    text = page(lambda method: typer.echo(f"{method} …", err=True))
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(out) as whole:
        whole.write_text(text, encoding="utf-8")
    typer.echo(f"wrote {out}")


if __name__ == "__main__":
    typer.run(main)
