"""How far the verdict of ``saywhy check`` can be believed: in Toybox, where the right place is known.

    python -m claims.trust                          # print the tables
    python -m claims.trust --out docs/claims-trust.md

A map is *right* if it is highest on the thing that it is asked for, or within a cell of it. The limits of the tests
were chosen on the split "val" (``--split val``); what is reported is of "test". What was measured is kept scene by
scene under out/claims, so that it can be stopped and goes on.
"""

import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor

import saywhy
from claims.measure import Measured, estimate, table
from claims.speakers import FOLDER
from saywhy.check import Limits, verdicts
from saywhy.data.toybox import Scene, scene
from saywhy.engine.subject import Subject
from saywhy.errors import SaywhyWarning
from saywhy.methods import METHODS, Method, register
from saywhy.metrics import measure
from saywhy.metrics.nulls import centre_like, edges_like
from saywhy.view.atomic import written_whole

SCENES = 40
HONEST = (
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
"""A layer at which Grad-CAM is known to be bad: the first one."""

MAPS = (*HONEST, f"gradcam at {SHALLOW}")

NEAR = 8
"""Pixels from the thing at which a peak is still right: a cell of the map."""

CHEATS = ("cheat-edges", "cheat-centre", "cheat-outline")
LEVELS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.99)
"""Shares of maps of chance that a map must beat."""


@dataclass(frozen=True)
class Row:
    """What the tests found of one map.

    Attributes:
        network: "trained" or "untrained".
        method: whose map it is.
        scene: of the split.
        right: the share of its highest places that lie on the thing that was asked for, or next to it.
        tests: by name, the value and whether it passed.
    """

    network: str
    method: str
    scene: int
    right: float
    tests: dict[str, tuple[float, bool | None]]

    @property
    def trusted(self) -> bool:
        """By the rule."""
        return all(passed is not False for _, passed in self.tests.values())

    def trusted_at(self, level: float) -> bool:
        """By the rule with another limit of faithfulness."""
        others = all(passed is not False for name, (_, passed) in self.tests.items() if name != "faithful")
        return others and self.tests["faithful"][0] >= level

    def trusted_without(self, name: str) -> bool:
        """By the rule without one of its tests."""
        return all(passed is not False for other, (_, passed) in self.tests.items() if other != name)


class Outline:
    """A method that knows where the thing is, and nothing of the network."""

    mask: np.ndarray | None = None

    def __call__(self, subject: Subject) -> Tensor:
        assert self.mask is not None
        return torch.from_numpy(self.mask).float().expand(subject.size, 1, -1, -1).clone()


OUTLINE = Outline()


def _null(make: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Subject], Tensor]:
    def function(subject: Subject) -> Tensor:
        return make(torch.zeros(subject.size, 1, *subject.picture.shape[2:]), subject.picture).float()

    return function


def cheats() -> None:
    """Methods that look at the picture, or at the truth, and never at the network."""
    made = {"cheat-edges": _null(edges_like), "cheat-centre": _null(centre_like), "cheat-outline": OUTLINE}
    for name, function in made.items():
        if name not in METHODS:
            register(Method(name, function, name, "none", "", passes="several", at="input", grid="input"))


def asked(model: saywhy.Model, drawn: Scene) -> str | None:
    """The kind of thing there that the network is surest of, if it is sure of any."""
    found = saywhy.explain(model, drawn.image, sorted({thing.kind for thing in drawn.objects}), "eigencam")
    assert found.probabilities is not None
    surest = int(found.probabilities[0].argmax())
    return found.targets[0][surest] if float(found.probabilities[0, surest]) > 0.5 else None


def rows(network: str, model: saywhy.Model, methods: Sequence[str], drawn: Scene, kind: str) -> list[Row]:
    """The tests of all methods on one scene; a name such as "gradcam at stem" says at which layer."""
    mask = np.logical_or.reduce([thing.mask for thing in drawn.objects if thing.kind == kind])
    OUTLINE.mask, found = mask, []
    for name in methods:
        method, _, layer = name.partition(" at ")
        explanation = saywhy.explain(model, drawn.image, kind, method, layer or None)
        tests = {test.name: (test.value, test.passed) for test in verdicts(explanation)[0][0].tests}
        pointed = measure(explanation, "pointing-game", masks=[[mask]], nulls=(), tolerance=NEAR)["pointing-game"]
        found.append(Row(network, name, drawn.index, float(pointed.values), tests))
    return found


def measured(split: str, scenes: int, progress: Progress) -> list[Row]:
    """All rows; those that were measured before are read."""
    cheats()
    kept = FOLDER / f"trust-{split}.jsonl"
    kept.parent.mkdir(parents=True, exist_ok=True)
    found = [Row(**json.loads(line)) for line in kept.read_text().splitlines()] if kept.exists() else []
    done = {row.scene for row in found}
    trained, untrained = saywhy.load("toybox:classifier"), saywhy.load("toybox:classifier", "random")
    bar = progress.add_task(f"checking {split}", total=scenes)
    index = taken = 0
    while taken < scenes:
        drawn = scene(split, index)
        kind = asked(trained, drawn)
        if kind is not None:
            if index not in done:
                new = rows("trained", trained, (*MAPS, *CHEATS), drawn, kind)
                new += rows("untrained", untrained, ("gradcam", "cheat-outline"), drawn, kind)
                with kept.open("a") as file:
                    file.writelines(json.dumps(asdict(row)) + "\n" for row in new)
                found += new
            taken += 1
            progress.advance(bar)
        index += 1
    return [row for row in found if row.scene < index]


def share(rows: Sequence[Row], value: Callable[[Row], float]) -> str:
    """The mean over rows with its interval, scenes being drawn again."""
    if not rows:
        return ""
    found = estimate(Measured(np.array([value(row) for row in rows], float), [row.scene for row in rows]))
    return f"{found.value:.0%} ({found.low:.0%} to {found.high:.0%})"


def reliability(rows: Sequence[Row], trusted: Callable[[Row], bool]) -> list[object]:
    """How many are trusted; how many of these are right, and how many of the others wrong."""
    yes, no = [row for row in rows if trusted(row)], [row for row in rows if not trusted(row)]
    return [
        share(rows, lambda row: float(trusted(row))),
        share(yes, lambda row: row.right),
        share(no, lambda row: 1 - row.right),
    ]


def report(found: Sequence[Row], split: str, seconds: float) -> str:
    """The page."""
    honest = [row for row in found if row.network == "trained" and row.method in MAPS]
    names = list(honest[0].tests)
    by_method: list[list[object]] = []
    for who, network in [
        *((m, "trained") for m in (*MAPS, *CHEATS)),
        ("gradcam", "untrained"),
        ("cheat-outline", "untrained"),
    ]:
        own = [row for row in found if row.method == who and row.network == network]
        passed = [
            share([r for r in own if r.tests[n][1] is not None], lambda r, n=n: float(bool(r.tests[n][1])))
            for n in names
        ]  # type: ignore[misc]
        label = who if network == "trained" else f"{who}, untrained network"
        by_method.append([label, share(own, lambda r: r.right), share(own, lambda r: float(r.trusted)), *passed])
    heads = ["share trusted", "right, of those trusted", "wrong, of those not trusted"]
    curve = [[f"{level:.0%}", *reliability(honest, lambda row, level=level: row.trusted_at(level))] for level in LEVELS]  # type: ignore[misc]
    without = [[name, *reliability(honest, lambda row, name=name: row.trusted_without(name))] for name in names]  # type: ignore[misc]
    scenes = len({row.scene for row in found})
    return HEAD.format(
        split=split,
        scenes=scenes,
        maps=len(honest),
        methods=len(MAPS),
        minutes=seconds / 60,
        limits=Limits(),
        right=share(honest, lambda row: row.right),
        rule=table(["", *heads], [["the rule", *reliability(honest, lambda row: row.trusted)]]),
        curve=table(["must beat so many maps of chance", *heads], curve),
        without=table(["without the test", *heads], without),
        methods_table=table(["map", "right", "trusted", *names], by_method),
    )


HEAD = """# Whether a trusted map is right

Made by `python -m claims.trust` in {minutes:.0f} minutes: {maps} maps by {methods} methods, of {scenes} scenes of
Toybox's split "{split}", for the thing there that the classifier is surest of. A map is *right* if it is highest on
that thing, or within 8 pixels (a cell) of it; {right} are. Intervals are 95 %, by the bootstrap over scenes. The
limits of the rule were chosen on the split "val": {limits}.

{rule}

## The curve

The same rule, with another share of maps of chance that a map must be more faithful than.

{curve}

## What each test is good for

{without}

## Method by method

How often each test is passed, where it can be made. The cheats look at the picture (an edge detector), at nothing (a
hill in the middle) or at the truth (the outline of the thing), and never at the network: none of them may be trusted,
however right it is.

{methods_table}
"""


def main(
    out: Annotated[Path | None, typer.Option(help="The Markdown file to write; else it is printed.")] = None,
    split: Annotated[str, typer.Option(help="Of Toybox.")] = "test",
    scenes: Annotated[int, typer.Option(min=2, help="How many.")] = SCENES,
) -> None:
    """Measure, and print the tables."""
    begin = perf_counter()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        warnings.catch_warnings(action="ignore", category=SaywhyWarning),
        Progress(*columns, console=Console(stderr=True)) as progress,
    ):
        found = measured(split, scenes, progress)
    text = report(found, split, perf_counter() - begin)
    if out is None:
        print(text)
        return
    with written_whole(out) as temporary:
        temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
