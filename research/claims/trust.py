"""Accuracy of the verdict of ``saywhy check``, measured in Toybox, where the correct region is known.

    python -m research.claims.trust                          # print the tables
    python -m research.claims.trust --out docs/claims-trust.md
    python -m research.claims.trust --split val              # on the split on which limits may be chosen

A map is *right* if its maximum lies on the explained object, or within a cell of it. The published page uses the split
"test". Measurements are stored scene by scene under out/claims, so that a stopped run continues; verdicts are not
stored but derived from the current limits. Measurements of other versions of the code are ignored.
"""

import ast
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from importlib.metadata import version
from itertools import count
from pathlib import Path
from textwrap import fill
from time import perf_counter
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.progress import Progress

import saywhy
from research.claims import trust_real
from research.claims.cases import REAL
from research.claims.language_networks import FOLDER
from research.claims.measure import FEWEST, Estimate, ItemValues, estimate, table
from research.claims.section import at_most, run, zeros_allowed
from research.claims.trust_controls import CONTROLS, MIXTURES, OUTLINE, controls
from research.options import Out
from saywhy.checks import CHECKS, CheckLimits, CheckResult, Measurement, Verdict, verdicts
from saywhy.metrics import measure
from saywhy.statistics import bootstrap, wilson
from saywhy.toybox import Scene, scene

SCENES = 40
METHODS_TESTED = (
    "gradcam",
    "gradcam++",
    "layercam",
    "rsi-gradcam",
    "integrated-gradients",
    "input-times-gradient",
    "saliency",
    "guided-gradcam",
    "guided-backprop",
    "deconvnet",
    "eigencam",
)
SHALLOW = "stem"
"""A layer at which Grad-CAM is known to be poor: the first one."""

MAPS = (*METHODS_TESTED, f"gradcam at {SHALLOW}")
METHODS_UNTRAINED = ("gradcam", "layercam", "rsi-gradcam", "saliency")

EVERYBODY = (
    *(("trained", name) for name in (*MAPS, *CONTROLS, *MIXTURES)),
    *(("untrained", name) for name in (*METHODS_UNTRAINED, "control-outline")),
)
"""The tested maps of every scene: network and method."""

UNTRAINED = 0
"""The seed of the untrained network."""

NEAR = 8
"""Largest distance of a right peak from the object in pixels: a cell of the map."""

AROUND = {
    "faithfulness": (0.0, 0.5, 0.8, 0.9, 0.95, 0.99),
    "effect_size": (0.0, 0.01, 0.03, 0.1, 0.3, 1.0),
    "parameter_randomization": (0.3, 0.5, 0.7, 0.9, 1.0),
    "class_sensitivity": (0.5, 0.7, 0.8, 0.9, 0.95, 1.0),
    "stability": (0.0, 0.6, 0.7, 0.8, 0.9),
    "completeness": (0.02, 0.05, 0.1, 0.2),
}
"""Alternative values of the limits."""

SOURCES = (
    *("*.py", "checks/measures.py", "engine/*.py", "explainer/*.py", "methods/*.py", "metrics/*.py"),
    *("toybox/*.py", "toybox/scenes/*.py", "toybox/models/*.py", "toybox/weights/toybox-classifier*"),
)
"""Files of the package on which the measurements depend; limits and messages are not among them."""


@dataclass(frozen=True)
class Row:
    """The measurements of the checks for one map.

    Attributes:
        network: "trained" or "untrained".
        method: the method of the map.
        scene: number of the scene in the split.
        right: the share of its maxima that lie on the explained object, or next to it.
        values: the value of each check; None where it does not apply.
    """

    network: str
    method: str
    scene: int
    right: float
    values: dict[str, float | None]

    def passed(self, name: str, limits: CheckLimits = CheckLimits()) -> bool | None:  # noqa: B008 (frozen)
        """Return whether the map passes a check; None where it does not apply."""
        return CheckResult.of(CHECKS[name], Measurement(self.values[name]), limits).passed

    def verdict(self, limits: CheckLimits = CheckLimits(), without: str = "") -> Verdict:  # noqa: B008 (frozen)
        """Return the verdict by the rule, or by the rule without one of its checks."""
        return Verdict.of(self.values, limits, [without])


@dataclass(frozen=True)
class SceneResult:
    """The rows of a scene, and the seconds that they took."""

    scene: int
    seconds: float
    rows: list[Row]


def untrained() -> saywhy.Model:
    """Return the untrained network, the same in every run."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(UNTRAINED)
        return saywhy.load("toybox:classifier", "random")


def most_certain_kind(model: saywhy.Model, drawn: Scene) -> str | None:
    """Return the present kind with the highest probability, if that is above one half."""
    found = saywhy.explain(model, drawn.image, sorted({obj.kind for obj in drawn.objects}), "eigencam")
    assert found.probabilities is not None
    surest = int(found.probabilities[0].argmax())
    return found.targets[0][surest] if float(found.probabilities[0, surest]) > 0.5 else None


def confident_scenes(split: str, model: saywhy.Model) -> Iterator[tuple[Scene, str]]:
    """Yield the scenes in which the network finds an object, with its kind."""
    for index in count():
        drawn = scene(split, index)
        kind = most_certain_kind(model, drawn)
        if kind is not None:
            yield drawn, kind


def rows(network: str, model: saywhy.Model, methods: Sequence[str], drawn: Scene, kind: str) -> list[Row]:
    """Run the checks of all methods on one scene; a name such as "gradcam at stem" gives the layer."""
    mask = np.logical_or.reduce([obj.mask for obj in drawn.objects if obj.kind == kind])
    OUTLINE.mask, found = mask, []
    for name in methods:
        method, _, layer = name.partition(" at ")
        explanation = saywhy.explain(model, drawn.image, kind, method, layer or None)
        pointed = measure(explanation, "pointing-game", masks=[[mask]], baselines=(), tolerance=NEAR)["pointing-game"]
        found.append(Row(network, name, drawn.index, float(pointed.values), verdicts(explanation)[0][0].values))
    return found


class _WithoutDocstrings(ast.NodeTransformer):
    """Remove docstrings from a syntax tree (which has no comments)."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        return None if isinstance(node.value, ast.Constant) else self.generic_visit(node)


def code(package: Path) -> str:
    """Return a digest of the code and weights behind the measurements, without docstrings and comments."""
    digest = sha256()
    for file in sorted({file for pattern in SOURCES for file in package.glob(pattern) if file.is_file()}):
        text = file.read_bytes()
        digest.update(ast.dump(_WithoutDocstrings().visit(ast.parse(text))).encode() if file.suffix == ".py" else text)
    return digest.hexdigest()[:16]


def settings(split: str) -> dict[str, str | int]:
    """Return the settings on which the measurements depend."""
    return {
        "saywhy": version("saywhy"),
        "torch": torch.__version__,
        "split": split,
        "near": NEAR,
        "untrained": UNTRAINED,
        "code": code(Path(saywhy.__file__).parent),
    }


def stored(file: Path, of: dict[str, Any]) -> dict[int, SceneResult]:
    """Return the complete scenes that were measured before with these settings."""
    if not file.exists():
        return {}
    lines = file.read_bytes().split(b"\n")
    if lines[-1]:  # an incomplete line of a stopped run is removed and measured again
        os.truncate(file, file.stat().st_size - len(lines[-1]))
    found = {}
    for number, text in enumerate(lines[:-1], 1):
        try:
            line = json.loads(text)
        except ValueError as error:
            raise ValueError(f"expected JSON in {file}, line {number}, got something else: delete it.") from error
        if line.get("of") == of:
            done = SceneResult(line["scene"], line["seconds"], [Row(**row) for row in line["rows"]])
            if [(row.network, row.method) for row in done.rows] == list(EVERYBODY):
                found[done.scene] = done
    return found


def store(file: Path, of: dict[str, Any], done: SceneResult) -> None:
    """Append a scene to the file, on one line."""
    with file.open("a", encoding="utf-8") as out:
        out.write(json.dumps({"of": of, **asdict(done)}) + "\n")


@zeros_allowed()
@controls()
def measure_scenes(split: str, scenes: int, progress: Progress) -> list[SceneResult]:
    """Measure all scenes; those that were measured before are read from the file."""
    file, of = FOLDER / f"trust-{split}.jsonl", settings(split)
    file.parent.mkdir(parents=True, exist_ok=True)
    before, found = stored(file, of), []
    models = {"trained": saywhy.load("toybox:classifier"), "untrained": untrained()}
    for drawn, kind in at_most(scenes, confident_scenes(split, models["trained"]), f"checking {split}", progress):
        if drawn.index not in before:
            begin, new = perf_counter(), list[Row]()
            for network, model in models.items():
                new += rows(network, model, [method for whose, method in EVERYBODY if whose == network], drawn, kind)
            before[drawn.index] = SceneResult(drawn.index, perf_counter() - begin, new)
            store(file, of, before[drawn.index])
        found.append(before[drawn.index])
    return found


@zeros_allowed()
@controls()
def photographs(progress: Progress) -> dict[tuple[str, int, str], trust_real.Values]:
    """Measure the photographs; those that were measured before are read from the file."""
    file, of = FOLDER / "trust-photographs.jsonl", settings("photographs")
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = map(json.loads, file.read_text(encoding="utf-8").splitlines()) if file.exists() else iter(())
    known: dict[tuple[str, int, str], trust_real.Values] = {}
    known |= {tuple(line["key"]): line["values"] for line in lines if line["of"] == of}
    for key in trust_real.measure_photographs(known, progress):
        with file.open("a", encoding="utf-8") as out:
            out.write(json.dumps({"of": of, "key": key, "values": known[key]}) + "\n")
    return known


def interval(rows: Sequence[Row], value: Callable[[Row], float]) -> Estimate:
    """Return the mean over rows with its interval.

    The maps of a scene are correlated, so that the bootstrap resamples scenes. With one map in each scene, or where all
    scenes have the same value (so that the bootstrap interval has no width), it is Wilson's interval for that number of
    scenes.
    """
    found = estimate(ItemValues(np.array([value(row) for row in rows], float), [row.scene for row in rows]))
    if found.items > found.scenes and found.low < found.high:
        return found
    return Estimate(found.value, *wilson(found.value, found.scenes), found.items, found.scenes)


def share(rows: Sequence[Row], value: Callable[[Row], float]) -> str:
    """Return the mean over rows with its interval as text; empty for no rows."""
    if not rows:
        return ""
    found = interval(rows, value)
    return f"{found.value:.0%} ({found.low:.0%} to {found.high:.0%})"


def applicable(rows: Sequence[Row], name: str) -> list[Row]:
    """Return the rows to which a check applies."""
    return [row for row in rows if row.values[name] is not None]


def passes(rows: Sequence[Row], name: str) -> str:
    """Return the share of applicable maps that pass a check, and their number if it does not apply to all."""
    of = applicable(rows, name)
    if not of:
        return "not applicable" if rows else ""
    passing = share(of, lambda row: float(bool(row.passed(name))))
    return passing if len(of) == len(rows) else f"{passing} of {len(of)}"


def discrimination(name: str, maps: Sequence[Row], controls: Sequence[Row]) -> str:
    """Return who passes a check, and whether it separates maps from controls and right from wrong maps.

    Two groups are separated if their intervals do not overlap. Groups from too few scenes are not compared.
    """
    groups = {"maps": maps, "controls": controls} | dict(zip(("right maps", "wrong maps"), halves(maps), strict=True))
    groups = {who: applicable(rows, name) for who, rows in groups.items()}
    if not groups["maps"]:
        return f"The check *{name}* does not apply to any of the maps."
    found = {who: interval(rows, lambda row: float(bool(row.passed(name)))) for who, rows in groups.items() if rows}
    shares = ", ".join(
        f"{passes(groups[who], name)} of {who}" for who in ("right maps", "wrong maps", "controls") if who in found
    )
    sentences = [f"The check *{name}* is passed by {shares}."]
    for less, more in (("controls", "maps"), ("wrong maps", "right maps")):
        if less in found and more in found and min(found[less].scenes, found[more].scenes) >= FEWEST:
            does = "separates" if found[less].high < found[more].low else "does not separate"
            sentences.append(f"It {does} {more} from {less}.")
    return " ".join(sentences)


def halves(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Split rows into right and wrong maps."""
    return [row for row in rows if row.right > 0.5], [row for row in rows if row.right <= 0.5]


@dataclass(frozen=True)
class RowGroups:
    """The rows by group: methods, fixed maps, their mixtures with a gradient, and methods on an untrained network."""

    maps: list[Row]
    controls: list[Row]
    mixtures: list[Row]
    untrained: list[Row]

    def rule(self, passed: Callable[[Row], bool]) -> list[object]:
        """Return the share that passes, right among the passed, wrong among the failed, and who else passes."""
        yes, no = [[row for row in self.maps if passed(row) is which] for which in (True, False)]
        return [
            share(self.maps, lambda row: float(passed(row))),
            share(yes, lambda row: row.right),
            share(no, lambda row: 1 - row.right),
            *(share(rows, lambda row: float(passed(row))) for rows in (self.controls, self.mixtures, self.untrained)),
        ]

    def limit(self, name: str) -> str:
        """Return the section on a limit: alternative values, and the current one in bold."""
        present = getattr(CheckLimits(), name)
        lines = []
        for value in sorted({*AROUND[name], present}):
            limits = CheckLimits(**{name: value})
            label = f"**{value:g}**" if value == present else f"{value:g}"
            lines.append([label, *self.rule(lambda row, limits=limits: row.verdict(limits).passed)])  # type: ignore[misc]
        return f"### {name.replace('_', ' ')}\n\n{table(['limit', *HEADS], lines)}"

    def test(self, name: str) -> list[object]:
        """Return the row of a check: how often it applies, and who passes it."""
        groups = (self.maps, *halves(self.maps), self.controls, self.mixtures, self.untrained)
        return [
            name,
            f"{len(applicable(self.maps, name))} of {len(self.maps)}",
            *(passes(group, name) for group in groups),
        ]

    def within_methods(self) -> str:
        """Return how much more often passed maps are right than failed maps of the same method.

        The mean over methods with passed and with failed maps, of which a method like deconvnet, nearly always wrong,
        is one. The interval is a bootstrap over scenes, in which a method that loses one of its groups is left out.
        """
        names = list(dict.fromkeys(row.method for row in self.maps))
        scenes = {scene: place for place, scene in enumerate(dict.fromkeys(row.scene for row in self.maps))}
        counts = np.zeros((len(scenes), len(names), 2, 2))  # failed or passed; right maps, all maps
        for row in self.maps:
            cell = counts[scenes[row.scene], names.index(row.method), int(row.verdict().passed)]
            cell += (row.right, 1.0)

        def difference(resampled: np.ndarray) -> np.ndarray:
            sums = resampled.sum(-4)
            with np.errstate(invalid="ignore"):
                rates = sums[..., 0] / sums[..., 1]
            return np.nan_to_num(np.nanmean(rates[..., 1] - rates[..., 0], -1))

        both = int((counts.sum(0)[..., 1].min(-1) > 0).sum())
        if not both:
            return "Within methods passed and failed maps cannot be compared: no method has both."
        low, high = bootstrap(counts, difference)
        return (
            f"Within methods (the mean over the {both} that have passed and failed maps, interval over scenes) the "
            f"share of right maps differs between the passed and the failed by {float(difference(counts)):+.0%} "
            f"({low:+.0%} to {high:+.0%})."
        )

    def untrained_summary(self) -> str:
        """Return how many maps of the untrained network pass all checks."""
        passed = [row for row in self.untrained if row.verdict().passed]
        right = f"; of these {share(passed, lambda row: row.right)} are right" if passed else ""
        whose = "maps of an untrained network"
        return f"Of {len(self.untrained)} {whose}, {len(passed) or 'none'} pass all checks{right}."


HEADS = (
    *("share that passes", "right among passed", "wrong among failed"),
    *("fixed maps that pass", "mixtures that pass", "untrained network"),
)


def page(done: Sequence[SceneResult], split: str, real: str = "") -> str:
    """Return the page as Markdown; ``real`` is the section on photographs."""
    every = [row for one in done for row in one.rows]
    found = RowGroups(
        [row for row in every if row.network == "trained" and row.method in MAPS],
        [row for row in every if row.method in CONTROLS],
        [row for row in every if row.method in MIXTURES],
        [row for row in every if row.network == "untrained" and row.method not in CONTROLS],
    )
    names = list(CHECKS)
    by_method: list[list[object]] = []
    for network, who in EVERYBODY:
        own = [row for row in every if row.method == who and row.network == network]
        label = who if network == "trained" else f"{who}, untrained network"
        passed = share(own, lambda row: float(row.verdict().passed))
        right = [share(half, lambda row: row.right) for half in (own, [row for row in own if row.verdict().passed])]
        by_method.append([label, *right, passed, *(passes(own, name) for name in names)])
    without = [[n, *found.rule(lambda row, n=n: row.verdict(without=n).passed)] for n in names]  # type: ignore[misc]
    groups = (
        "passed by maps",
        "… that are right",
        "… that are wrong",
        "by fixed maps",
        "by mixtures",
        "by maps of an untrained network",
    )
    text = HEAD.format(
        split=split,
        scenes=len(done),
        maps=len(found.maps),
        methods=len(MAPS),
        minutes=sum(one.seconds for one in done) / 60,
        limits=", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in vars(CheckLimits()).items()),
        near=NEAR,
        right=share(found.maps, lambda row: row.right),
        rule=table(["", *HEADS], [["the rule", *found.rule(lambda row: row.verdict().passed)]]),
        within=found.within_methods(),
        untrained=found.untrained_summary(),
        network=discrimination("parameter randomization", found.maps, found.controls),
        around="\n\n".join(found.limit(name) for name in AROUND),
        tests=table(["check", "applies to", *groups], [found.test(name) for name in names]),
        without=table(["without the check", *HEADS], without),
        real=real,
        methods_table=table(["map", "right", "right among passed", "passes all checks", *names], by_method),
    )
    return "\n\n".join(
        part if part[:1] in ("", "#", "|") else fill(part, 120, break_long_words=False, break_on_hyphens=False)
        for part in text.split("\n\n")
    )


HEAD = """# Whether a map that passes all checks is right

Made by `python -m research.claims.trust --split {split}` in {minutes:.0f} minutes: {maps} maps by {methods} methods, of
{scenes} scenes of Toybox's split "{split}", each for the present kind with the highest probability. A map is *right* if
its maximum lies on that object, or within {near} pixels (a cell) of it; {right} are. Intervals are 95 %: bootstrap
intervals over scenes where several maps of a scene are counted, and Wilson intervals for the number of scenes otherwise
and where all scenes agree. The limits of the rule: {limits}.

{rule}

{within} {untrained} {network}

## The limits

The same rule with other values of one limit, the other limits unchanged. The current value is bold.

{around}

## Contribution of each check

The number of maps to which each check applies, and the share of these that pass it (with their number, if it does not
apply to all).

{tests}

The rule without each check:

{without}

## Method by method

The share of maps that pass each check, where it applies. The fixed maps ("control") do not use the network: an edge
detector (uses the image only), a centre prior (uses nothing), and the object's outline (uses the ground truth). The
mixtures add a share of input times gradient, or its one maximum, to a fixed map. None of these should pass, even where
it is right.

{methods_table}

{real}"""

ABSENT = "The real networks and photographs are not on this machine and are left out."


def main(
    out: Out = None,
    split: Annotated[str, typer.Option(help="Split of Toybox.")] = "test",
    scenes: Annotated[int, typer.Option(min=2, help="Number of scenes.")] = SCENES,
) -> None:
    """Measure the scenes, and print or write the page."""

    def report(progress: Progress) -> str:
        done = measure_scenes(split, scenes, progress)
        real = trust_real.section(photographs(progress)) if REAL.is_dir() else ABSENT
        return page(done, split, real)

    run(report, out)


if __name__ == "__main__":
    typer.run(main)
