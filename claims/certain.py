"""What U-CAM's paper claims of certainty and attention, and whether it holds in Toybox, against controls.

    python -m claims.certain                       # trains eight networks of each of three seeds
    python -m claims.certain --out docs/claims-certain.md

A claim holds only where U-CAM is better than the base network and than every control, each by an interval above zero.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Annotated

import numpy as np
import torch
import typer
from jaxtyping import Bool, Float, Int
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor

import saywhy
from claims.doubting import CONTROLS, RUNS, STEPS, Doubter, doubter, said, with_places
from claims.measure import UNDECIDED, table
from saywhy.data.toybox import scene
from saywhy.data.toybox.talk import human_attention, questions
from saywhy.errors import SaywhyWarning
from saywhy.metrics.agreement import earth_movers_distance
from saywhy.metrics.attention import on_grid, rank_correlation
from saywhy.metrics.calibration import calibration_error
from saywhy.models.toybox import normalised
from saywhy.models.toybox_talk import ToyboxEyes
from saywhy.tasks.vocabulary import Vocabulary
from saywhy.training.talk import followed
from saywhy.training.toybox_ucam import Judged, Questions
from saywhy.uncertainty import fit_temperature
from saywhy.uncertainty.information import entropy
from saywhy.view.atomic import written_whole

SEEDS = 3
SCENES, TESTS, LOOKED = 3_000, 500, 120
"""Scenes of each split to train on, scenes of each to measure on, and scenes whose people's attention is compared."""

DRAWS = 1000
"""Of the bootstrap."""

Each = Float[np.ndarray, " question"]
Uncertain = dict[str, Each]


@dataclass
class Tests:
    """The questions of the test splits.

    Attributes:
        clear, blurred, unseen, chosen: of talk-test, ambiguous-test, unseen, and ambiguous-val (for temperatures).
        people: of every question about the first ``LOOKED`` clear scenes the maps of people [question, person, 14, 14].
        looked: these questions, as (scene, type).
        images: the pictures of these scenes, normalised.
    """

    clear: Questions
    blurred: Questions
    unseen: Questions
    chosen: Questions
    people: Float[Tensor, "question person row column"]
    looked: Int[Tensor, "question 2"]
    images: Float[Tensor, "scene 3 height width"]


@dataclass
class Run:
    """What was measured of one network.

    Attributes:
        seconds: of its training.
        uncertain: by name, of all clear and blurred questions.
        wrong: which of these were answered wrongly.
        scenes: of which scene each question is.
        accuracy: 1 where it is right.
        calibration: the expected calibration error as it is, and with a temperature.
        looks: by name of a map, its rank correlation with people's, question by question.
        distance: the earth mover's distance of the attention from people's.
        seen: of which scene each of these questions is.
        doubts: by kind of uncertainty, of clear, blurred and unseen questions.
    """

    seconds: float
    uncertain: Uncertain
    wrong: Bool[np.ndarray, " question"]
    scenes: Int[np.ndarray, " question"]
    calibration: tuple[float, float]
    looks: Uncertain
    distance: Each
    seen: Int[np.ndarray, " looked"]
    doubts: dict[str, dict[str, Each]]


def tested(eyes: ToyboxEyes, known: Vocabulary, count: int, looked: int, progress: Progress) -> Tests:
    """Draw the test splits, and what people looked at in the first scenes."""
    talks = {
        split: followed(split, count, progress) for split in ("talk-test", "ambiguous-test", "unseen", "ambiguous-val")
    }
    asked = {split: Questions(eyes, [talk], known) for split, talk in talks.items()}
    clear = asked["talk-test"]
    places = (clear.answers[:looked] >= 0).nonzero()
    people = []
    for index in range(looked):
        drawn = scene("talk-test", index)
        for question in questions(drawn):
            people.append(on_grid(torch.from_numpy(human_attention(drawn, question)).unsqueeze(0))[0])
    images = normalised(talks["talk-test"].images[:looked].float() / 255)
    return Tests(
        clear, *(asked[s] for s in ("ambiguous-test", "unseen", "ambiguous-val")), torch.stack(people), places, images
    )


def measured(network: Doubter, eyes: ToyboxEyes, tests: Tests) -> Run:
    """Everything that is measured of one network."""
    temperature = fit_temperature(*_logits(network, tests.chosen))
    splits = {name: getattr(tests, name) for name in ("clear", "blurred", "unseen")}
    guessed = {name: Judged(network.head, of_one, prepare=with_places) for name, of_one in splits.items()}
    single = {name: Judged(network.head, splits[name], 1, with_places) for name in ("clear", "blurred")}
    uncertain = {
        "entropy": [one.found.total for one in single.values()],
        "tempered": _tempered(network, tests, temperature),
        "predictive": [guessed[name].found.total for name in single],
        "aleatoric": [guessed[name].found.aleatoric for name in single],
        "epistemic": [guessed[name].found.epistemic for name in single],
    }
    if network.run != "base":
        uncertain["noise"] = [guessed[name].found.noise for name in single]
    right = torch.cat([one.right for one in single.values()])
    scenes = [one.scenes + 10**6 * number for number, one in enumerate(single.values())]
    looks, distance = _looks(network, eyes, tests)
    return Run(
        seconds=network.seconds,
        uncertain={name: torch.cat(parts).numpy() for name, parts in uncertain.items()},
        wrong=~right.numpy(),
        scenes=torch.cat(scenes).numpy(),
        calibration=(_calibration(network, tests, 1.0), _calibration(network, tests, temperature)),
        looks=looks,
        distance=distance,
        seen=tests.looked[:, 0].numpy(),
        doubts={
            kind: {name: getattr(one.found, kind).numpy() for name, one in guessed.items()}
            for kind in ("aleatoric", "epistemic", *(("noise",) if network.run != "base" else ()))
        },
    )


def _logits(network: Doubter, questions: Questions) -> tuple[Tensor, Tensor]:
    """Logits of every question, of one pass, and the right answers."""
    asked = (questions.answers >= 0).nonzero()
    with torch.inference_mode():
        parts = [said(network.head, questions.features[s], questions.words[s, t]).logits for s, t in _parts(asked)]
    return torch.cat(parts), questions.answers[asked[:, 0], asked[:, 1]]


def _parts(asked: Tensor) -> list[tuple[Tensor, Tensor]]:
    return [tuple(part.unbind(1)) for part in asked.split(200)]  # type: ignore[misc]


def _tempered(network: Doubter, tests: Tests, temperature: float) -> list[Tensor]:
    """Entropies of one pass, with a temperature that was fitted on other questions."""
    logits = (_logits(network, one)[0].double() / temperature for one in (tests.clear, tests.blurred))
    return [entropy(one.softmax(1)) for one in logits]


def _calibration(network: Doubter, tests: Tests, temperature: float) -> float:
    """The calibration error over clear and blurred questions."""
    pairs = [_logits(network, one) for one in (tests.clear, tests.blurred)]
    logits, right = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    chances, answers = (logits / temperature).softmax(1).max(1)
    return calibration_error(chances, answers == right)


def _looks(network: Doubter, eyes: ToyboxEyes, tests: Tests) -> tuple[Uncertain, Each]:
    """The agreement of attention and maps with people's, and the distance of attention from the first of them."""
    from saywhy.targets import Certainty, Top

    model, found = network.model(eyes), []
    attention = []
    targets = [Top(1)] if network.run == "base" else [Top(1), Certainty(), Certainty(answered=True)]
    for scenes, types in _parts(tests.looked):
        words = tests.clear.words[scenes, types]
        with warnings.catch_warnings(action="ignore", category=SaywhyWarning):  # maps of zeros count as 0
            made = saywhy.explain(
                model, {"image": tests.images[scenes], "question": words}, targets, "gradcam", "trunk.eyes.features"
            )
        found.append(made.maps)
        with torch.inference_mode():
            attention.append(said(network.head, tests.clear.features[scenes], words).attention.mean(1))  # type: ignore
    maps, looked = torch.cat(found), on_grid(torch.cat(attention))
    names = ("gradcam", "certainty-cam", "ucam")[: maps.shape[1]]
    agreeing = {name: _agreement(on_grid(maps[:, number]), tests.people) for number, name in enumerate(names)}
    distance = earth_movers_distance(looked, tests.people[:, 0])
    return {"attention": _agreement(looked, tests.people), **agreeing}, distance.numpy()


def _agreement(maps: Tensor, people: Tensor) -> Each:
    """The rank correlation with each person, the mean over persons, question by question."""
    each = [rank_correlation(maps.flatten(1), one.flatten(1)) for one in people.unbind(1)]
    return torch.stack(each).mean(0).numpy()


def weighted_auroc(
    values: Each, wrong: Bool[np.ndarray, " question"], weights: Float[np.ndarray, "draw question"]
) -> Each:
    """The AUROC of every redrawing of the questions, each of which comes so many times.

    >>> weighted_auroc(np.array([0.1, 0.2, 0.3]), np.array([False, True, False]), np.ones((1, 3)))
    array([0.5])
    """
    _, group = np.unique(values, return_inverse=True)
    count = int(group.max()) + 1
    sums = []
    for which in (wrong, ~wrong):
        of_group = np.zeros((len(weights), count))
        np.add.at(of_group.T, group[which], weights.T[which])
        sums.append(of_group)
    bad, good = sums
    below = np.cumsum(good, 1) - good / 2
    return np.asarray((bad * below).sum(1) / (bad.sum(1) * good.sum(1)))


def _weights(scenes: Int[np.ndarray, " question"], seed: int) -> Float[np.ndarray, "draw question"]:
    """How often every question comes when scenes are drawn again; the first row is once each."""
    names, place = np.unique(scenes, return_inverse=True)
    drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), DRAWS)
    return np.concatenate([np.ones((1, len(scenes))), drawn[:, place]]).astype(float)


Curve = Float[np.ndarray, " draw"]
"""A statistic of the questions as they are (first), and of every redrawing."""


def _mean(values: Each, weights: Float[np.ndarray, "draw question"]) -> Curve:
    return np.asarray((weights @ values) / weights.sum(1))


@dataclass(frozen=True)
class Statistic:
    """A number and its 95 % interval."""

    value: float
    low: float
    high: float

    @staticmethod
    def of(curves: list[Curve]) -> "Statistic":
        """The mean over seeds."""
        mean = np.mean(curves, 0)
        low, high = np.quantile(mean[1:], [0.025, 0.975])
        return Statistic(float(mean[0]), float(low), float(high))

    @property
    def verdict(self) -> str:
        """Whether it is above zero."""
        if self.low <= 0 <= self.high:
            return UNDECIDED
        return "holds" if self.low > 0 else "does not hold"

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


KINDS = {
    "entropy": "entropy",
    "tempered": "entropy, tempered",
    "predictive": "50 guesses: all",
    "aleatoric": "aleatoric",
}
KINDS |= {"epistemic": "epistemic", "noise": "variance head"}


class Results:
    """What was measured of all networks, and what follows."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[int, Run]] = {}

    def add(self, network: Doubter, run: Run) -> None:
        """Keep what was measured of a network."""
        self.runs.setdefault(network.run, {})[network.seed] = run

    def tell(self, name: str, kind: str) -> list[Curve]:
        """The AUROC of an uncertainty for errors, seed by seed."""
        of = self.runs[name].items()
        return [weighted_auroc(r.uncertain[kind], r.wrong, _weights(r.scenes, seed)) for seed, r in of]

    def right(self, name: str) -> list[Curve]:
        """Accuracy, seed by seed."""
        return [_mean(~r.wrong, _weights(r.scenes, seed)) for seed, r in self.runs[name].items()]

    def look(self, name: str, what: str) -> list[Curve]:
        """Agreement of a map with people, seed by seed; what has no such map has its attention."""
        of = self.runs[name].items()
        if what == "distance":
            return [_mean(r.distance, _weights(r.seen, seed)) for seed, r in of]
        return [_mean(r.looks[what], _weights(r.seen, seed)) for seed, r in of]

    def rises(self, name: str, kind: str, split: str) -> list[Curve]:
        """How likely a question of a split is more uncertain than one of the clear scenes."""
        found = []
        for seed, run in self.runs[name].items():
            clear, other = run.doubts[kind]["clear"], run.doubts[kind][split]
            strange = np.arange(len(clear) + len(other)) >= len(clear)
            weights = _weights(np.arange(len(strange)), seed)
            found.append(weighted_auroc(np.concatenate([clear, other]), strange, weights))
        return found

    def better(self, text: str, ours: list[Curve], theirs: dict[str, list[Curve]]) -> list[list[object]]:
        """Rows of a claim: ours less each of the others, and whether all of these are above zero."""
        differences = {name: Statistic.of([a - b for a, b in zip(ours, c, strict=True)]) for name, c in theirs.items()}
        verdicts = [one.verdict for one in differences.values()]
        whole = "holds" if set(verdicts) == {"holds"} else "does not hold" if "does not hold" in verdicts else UNDECIDED
        rows: list[list[object]] = [[text, "", f"**{whole}**"]]
        return rows + [["", f"less {name}: {one}", one.verdict] for name, one in differences.items()]

    def report(self) -> str:
        """Tables."""
        return "\n\n".join(["## Measured", self._measured(), "## Claims", self._claims()])

    def _measured(self) -> str:
        rows = []
        for name, of_seeds in self.runs.items():
            kinds = [k for k in KINDS if k in next(iter(of_seeds.values())).uncertain]
            told = {kind: Statistic.of(self.tell(name, kind)) for kind in kinds}
            looks = next(iter(of_seeds.values())).looks
            calibrations = np.mean([r.calibration for r in of_seeds.values()], 0)
            rows.append(
                [
                    name,
                    Statistic.of(self.right(name)),
                    *(told.get(kind, "") for kind in KINDS),
                    " / ".join(f"{value:.3f}" for value in calibrations),
                    *(Statistic.of(self.look(name, w)) if w in looks else "" for w in LOOKS),
                    Statistic.of(self.look(name, "distance")),
                    f"{np.mean([r.seconds for r in of_seeds.values()]) / 60:.1f}",
                ]
            )
        heads = ["network", "accuracy", *(f"AUROC, {text}" for text in KINDS.values()), "ECE / tempered"]
        heads += [f"{name} and people (ρ)" for name in LOOKS] + ["attention to people (EMD)", "minutes"]
        return table(heads, rows)

    def _claims(self) -> str:
        ours, others = "U-CAM", [name for name in CONTROLS if name in self.runs]
        base = {"the base's entropy": self.tell("base", "entropy"), "tempered": self.tell("base", "tempered")}
        base["the base's 50 guesses"] = self.tell("base", "predictive")
        rows = self.better(
            "(a) its uncertainty tells wrong from right answers better",
            self.tell(ours, "predictive"),
            base | {name: self.tell(name, "predictive") for name in others},
        )
        rows += self.better(
            "(a) its variance head does",
            self.tell(ours, "noise"),
            base | {name: self.tell(name, "noise") for name in others},
        )
        everybody = ["base", *others]
        rows += self.better(
            "(b) its attention agrees more with people's",
            self.look(ours, "attention"),
            {name: self.look(name, "attention") for name in everybody},
        )
        rows += self.better(
            "(b) its attention is nearer to people's (earth mover's distance)",
            [-c for c in self.look(ours, "distance")],
            {name: [-c for c in self.look(name, "distance")] for name in everybody},
        )
        for what in ("certainty-cam", "ucam"):
            theirs = {"the base's Grad-CAM": self.look("base", "gradcam")}
            theirs |= {name: self.look(name, what) for name in others}
            rows += self.better(f"(b) its {what} agrees more with people's", self.look(ours, what), theirs)
        spare = [c + MARGIN for c in self.right(ours)]
        rows += self.better(f"(c) it answers no worse (by {MARGIN:.0%})", spare, {"base": self.right("base")})
        for kind, other, home in (("aleatoric", "epistemic", "blurred"), ("epistemic", "aleatoric", "unseen")):
            rows += self.better(
                f"(d) {kind} uncertainty is higher for {home} pictures",
                self.rises(ours, kind, home),
                {"chance": [np.full_like(c, 0.5) for c in self.rises(ours, kind, home)]},
            )
            rows += self.better(
                f"(d) and more so than {other} uncertainty is",
                self.rises(ours, kind, home),
                {f"{other}, {home}": self.rises(ours, other, home)},
            )
        return table(["claim", "difference", "verdict"], rows)


LOOKS = ("attention", "gradcam", "certainty-cam", "ucam")
MARGIN = 0.01
"""By so much an accuracy may be lower and is called no worse."""

HEAD = """# U-CAM: certainty and attention, in Toybox

Made by `python -m claims.certain` with {seeds} seeds{share}, in {minutes:.0f} minutes ({trained:.0f} of them training)
on {cores} CPU cores. The base network is U-CAM's (Show, Ask, Attend and Answer), small, on the stored features of
Toybox's eyes with the places; all runs of a seed begin with the same weights and see the same questions, {steps:,} of
steps: clear scenes and blurred ones, with the shares of answers that ten simulated people give. U-CAM's training was
never published; this is a reconstruction (`saywhy.uncertainty`), and none of these figures can be compared with
published ones.

Everything is of the test splits. Uncertainties are judged on clear and blurred questions together. Intervals are 95 %,
by the bootstrap over scenes, of the mean over seeds; how far seeds differ is not in them. A claim **holds** only where
all differences below it are above zero: from the base network and from every control (the losses without surgery;
masks with their shares shuffled over places, random, or uniform; a temperature alone).
"""


def main(
    out: Annotated[Path | None, typer.Option(help="The Markdown file to write; else it is printed.")] = None,
    seeds: Annotated[int, typer.Option(min=1, max=9, help="How many seeds.")] = SEEDS,
    items: Annotated[float, typer.Option(min=0.01, max=1, help="This share of scenes and steps, to try it out.")] = 1.0,
) -> None:
    """Train, measure, and print the tables. Networks that were trained once are kept under out/claims."""
    begin, results, trained = perf_counter(), Results(), 0.0
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.fields[loss]}"), console=Console(stderr=True)) as progress:
        base = saywhy.load("toybox:vqa")
        eyes: ToyboxEyes = base.module.trunk  # type: ignore[assignment]
        known: Vocabulary = base.texts["question"].__self__  # type: ignore[attr-defined]
        scenes, count = int(items * SCENES), int(items * TESTS)
        shown = Questions(
            eyes, [followed(split, scenes, progress) for split in ("talk-train", "ambiguous-train")], known
        )
        tests = tested(eyes, known, count, int(items * LOOKED), progress)
        for seed in range(seeds):
            for run in RUNS:
                network = doubter(run, seed, known, shown, progress, int(items * STEPS))
                trained += network.seconds
                results.add(network, measured(network, eyes, tests))
    share = "" if items == 1 else f" and {items:.0%} of scenes and steps"
    head = HEAD.format(
        seeds=seeds,
        share=share,
        minutes=(perf_counter() - begin) / 60,
        trained=trained / 60,
        cores=torch.get_num_threads(),
        steps=int(items * STEPS),
    )
    text = f"{head}\n{results.report()}\n"
    if out is None:
        print(text)
        return
    with written_whole(out) as temporary:
        temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
