"""Write docs/parity.md: the distance of every method, and of other packages, from the published equation.

Run it as ``python -m research.benchmarks.parity_ledger``. It needs the packages grad-cam, torchcam, captum, zennit and
timm. The equations in plain float64 loops are in ``tests/oracles``, their settings in ``tests/methods``; the networks
and the calls of other packages are in ``tests/parity``.
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

from test_runs import SETTINGS, for_oracle, settings_of  # noqa: E402

from kinds import ATTENTION, HEADS  # noqa: E402  the tests are no package
from oracles import ORACLES, RUN_ORACLES  # noqa: E402
from oracles.networks import TinyNetwork, TinyTransformer  # noqa: E402
from oracles.observed import Observed  # noqa: E402
from parity import peers  # noqa: E402
from parity.cases import CASES, CONVOLUTIONAL, Case, build, distance, equation, scaled  # noqa: E402
from parity.runs import PEERS as RUNS  # noqa: E402

SIGNLESS = ("eigencam", "eigengradcam", "kpcacam")
"""Methods by principal components, whose sign pytorch-grad-cam leaves to the linear-algebra library."""

PEERS = {"grad-cam": "pytorch-grad-cam", "torchcam": "torchcam", "captum": "captum"}
ALL_PEERS = {**PEERS, "zennit": "zennit"}

# Why a package differs; the tests in tests/parity show each of these.
WHY = {
    ("gradcam++", "grad-cam"): (
        "adds 1e-6 to the denominator of equation 19, which has the size of the squared gradient: exact where "
        "gradients are large, and another method where they are small (next table)."
    ),
    ("gradcam++", "torchcam"): (
        "never divides: the in-place division works on a copy of the masked tensor (`alpha[idx][mask].div_(...)`), so "
        "that the weights are the sums of the cubes of the positive gradients. Its denominator also has the cube "
        "inside the sum, where equation 19 has the sum of the activations times the cube."
    ),
    ("eigencam", "grad-cam"): (
        "subtracts each channel's mean before the decomposition, which the paper does not, and leaves the sign of the "
        "component to the linear-algebra library. `center=True` gives its map, up to that sign."
    ),
    ("eigengradcam", "grad-cam"): (
        "likewise centres, and leaves the sign to the library. `center=True` gives its map, up to that sign."
    ),
    ("fem", "grad-cam"): (
        "adds up channels, each weighted by the share of positions above its threshold; the paper adds up the masks "
        "of these positions, each weighted by its channel's mean. `variant='share'` gives its map."
    ),
    ("gradcam", "captum"): (
        "on transformers it averages over the embedding and sums over tokens, and returns a row as long as the "
        "embedding without an error; only feature maps are compared here. Its ReLU is off by default."
    ),
}


def with_either_sign(maps: Tensor, wanted: Tensor) -> Tensor:
    """Return each map or its negative, whichever is nearer to the wanted map: a component has no sign."""

    def nearer(one: Tensor, to: Tensor) -> Tensor:
        return min((one.relu(), (-one).relu()), key=lambda side: distance(side[None], to[None]))

    return torch.stack([nearer(one, to) for one, to in zip(maps, wanted, strict=True)])


def peer_maps(package: str, method: str, case: Case, wanted: Tensor) -> Tensor | None:
    """Return the maps of another package, or None where it lacks the method for this network."""
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
    """Return a line of the first table: the largest distance over all networks."""
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
    """Return the networks on which a method is defined; CAM is defined on one only."""
    return ("resnet18",) if method == "cam" else CASES


def units() -> list[list[str]]:
    """Return the second table: the same network with its score or its activations scaled."""
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
    """Return a line of the last table."""
    ours = max(distance(*pair) for pair in oracle_pairs(method))
    cells = []
    for package in ALL_PEERS:
        found: dict[bool, float] = {}
        for peer in (p for p in RUNS.get(method, ()) if p.package == package):
            most = max(distance(peer.ours(case), peer.theirs(case).detach()) for case in peer.cases())
            found[peer.same] = max(most, found.get(peer.same, 0.0))
        cells.append(" / ".join(f"**{formatted(v)}**" if not same else formatted(v) for same, v in found.items()))
    return [f"`{method}`", METHODS[method].paper, in_a_cell(METHODS[method].equation), formatted(ours), *cells]


def oracle_pairs(method: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield our float32 maps and those of the oracle, [1, height, width], for all settings, images and targets."""
    network = network_for(method)
    layout = (
        saywhy.Layout("tokens", (6, 6), prefix=1) if method in ATTENTION else saywhy.Layout("channels-first", (6, 6))
    )
    images = torch.from_numpy(np.random.default_rng(6).standard_normal((2, 3, 12, 12))).float()
    double = copy.deepcopy(network).double()
    for settings in SETTINGS.get(method, [{}]):
        for score in ("logit", "probability"):
            found = saywhy.explain(
                network, images, [1, 2], method, "features", score=score, layout=layout, **settings_of(settings)
            ).maps
            for t, target in enumerate((1, 2)):
                observed = Observed(double, double.features, score_function(score, target))
                for b, image in enumerate(images.double().numpy()):
                    yield found[b, t][None], torch.from_numpy(oracle(method, settings, observed, image))[None]


def oracle(method: str, settings: dict[str, Any], observed: Observed, image: np.ndarray) -> np.ndarray:
    """Compute the published equation in float64 loops."""
    if method in RUN_ORACLES:
        return RUN_ORACLES[method](observed, image, **for_oracle(method, settings, image))
    x, gradient, _ = observed.at_image(image)
    return ORACLES[method](x, gradient, **settings)


def network_for(method: str) -> TinyNetwork | TinyTransformer:
    """Return a network of a few hundred weights on which the method is defined."""
    if method in ATTENTION:
        return TinyTransformer.build()
    return TinyNetwork.build(head=HEADS.get(method, "mlp"))


def score_function(score: str, target: int) -> Callable[[Tensor], Tensor]:
    """Return the function from the output to the score of a class."""
    return lambda output: (output.softmax(1) if score == "probability" else output)[:, target]


def reasons() -> list[str]:
    """Return why other packages differ from methods of several passes, or agree at some settings only."""
    said: dict[str, tuple[list[str], list[str]]] = {}
    for method, some in RUNS.items():
        for peer in some:
            if peer.note:
                methods, packages = said.setdefault(peer.note, ([], []))
                methods.append(f"`{method}`")
                packages.append(ALL_PEERS[peer.package])
    return [f"- {', '.join(dict.fromkeys(m))} of {', '.join(dict.fromkeys(p))}: {why}" for why, (m, p) in said.items()]


def in_a_cell(text: str) -> str:
    """Escape the bars of a text for a Markdown table."""
    return text.replace("|", r"\|")


def formatted(value: float) -> str:
    """Format a distance with one or two significant digits.

    >>> formatted(4.2e-7), formatted(0.0), formatted(0.0687)
    ('4e-07', '0', '0.069')
    """
    if value == 0:
        return "0"
    return f"{value:.0e}" if value < 1e-3 else f"{value:.2g}"


def table(head: list[str], lines: Iterable[list[str]]) -> str:
    """Return a Markdown table."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *lines))


def page(progress: Callable[[str], None]) -> str:
    """Return the page as Markdown."""
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

For every method, its published equation, and the distance of our float32 maps from that equation computed in plain
float64 loops (`tests/oracles`). Maps are raw, each divided by its own maximum. The distance is the largest difference
at any position of any map (1 is a map's whole range). An empty cell means that the package does not have the method.

## One pass at a layer

The distance of the maps of each package from the equation, on the layer's own grid. Networks: {", ".join(CASES)}, with
random weights, two images each, explained for their own top classes; torchcam and captum on {", ".join(CONVOLUTIONAL)};
CAM on resnet18.

{table(["method", "paper", "equation", "saywhy", *PEERS.values()], once)}

Where a package differs, and why:

{why}

## The same network at other scales

An absolute epsilon in a denominator makes a result depend on the scale of its inputs. Grad-CAM++ is compared with its
equation at each scale (the published equation itself depends on scale). XGrad-CAM's equation does not depend on scale,
so that all its rows should equal the first. `xgradcam` of pytorch-grad-cam adds 1e-7 to the sum of a channel's
activations, that of torchcam 1e-8.

{table(["method", "scale", "saywhy", "pytorch-grad-cam", "torchcam"], units())}

## Several passes, or the image itself

*saywhy* is the distance from the equation on networks of a few hundred weights: the largest over the settings of
`tests/methods/test_runs.py`, for logits and for probabilities. A method that subtracts two nearly equal scores loses
their common digits, of the seven that float32 has.

The other columns are the distance between another package's maps and ours, on networks of torchvision with random
weights, at settings for which both follow the same equation (all in `tests/parity/runs.py`). **Bold** marks settings
for which they should agree and do not.

{table(["method", "paper", "equation", "saywhy", *ALL_PEERS.values()], runs)}

None of these packages has {alone}: these methods are compared with their equation only. The attention weights are also
compared with those that transformers, timm and torchvision return (`tests/parity/test_attention.py`). The `LRP` of
captum is not compared, because it treats a batch norm as a separate layer.

Where a package differs, or agrees at some settings only:

{chr(10).join(reasons())}
"""


def main(
    out: Annotated[Path, typer.Option(help="The page to write.")] = REPOSITORY / "docs" / "parity.md",
) -> None:
    """Measure the distances, and write the page."""
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
