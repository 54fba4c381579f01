"""What the paper of Diverse Beam Search claims, with captions of Toybox.

    python -m research.claims.diverse_captions
    python -m research.claims.diverse_captions --out docs/claims-diverse-captions.md

Every decoder says six sentences of each scene, of two, three and four objects; people have said five.
"""

from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path
from time import perf_counter
from typing import Annotated

import torch
import typer
from PIL import Image
from rich.progress import Progress
from torch import Tensor

from research.claims.decoders import (
    BEAM,
    BEAMS,
    BY_MEAN,
    DIVERSE,
    DIVERSITY_PENALTIES,
    GROUPED,
    NUCLEUS,
    RATES,
    SHIPPED,
    SHIPPED_APART,
    SIBLINGS,
    TEMPERATURE,
    DecodedCaptions,
    Decoder,
    decode,
    decoders,
    diverse,
    shipped,
    siblings,
)
from research.claims.language_networks import SeededModel, captioner
from research.claims.maps import Measurements, verdict_row
from research.claims.measure import Estimate, Measured, difference, estimate, table, unpaired_difference
from research.claims.parallel import WORKERS, run_jobs
from research.claims.section import run, scaled, zeros_allowed
from saywhy.metrics.diversity import bleu, distinct, map_distance, repeated, similarity
from saywhy.tasks.captioning.caption import explain_captions
from saywhy.tasks.captioning.generate import DIVERSITY_PENALTY
from saywhy.toybox import Scene, scene
from saywhy.toybox.language import captions
from saywhy.toybox.language.mentions import mentions
from saywhy.toybox.models.classifier import normalised

SEEDS = 3
OBJECT_COUNTS = (2, 3, 4)
"""How many objects are in a scene: what stands in place of the paper's difficulty of an image."""

EACH = 80
"""Scenes of every number of objects, for every network."""

CHOSEN_ON = 60
"""Scenes of talk-val with four objects on which strengths are chosen."""

LOOKED_AT = 20
"""Scenes of every network of which maps are made."""

LESS_TRUE = 0.02
"""By how much what is said may be less true, and still be called as true."""

SWEPT = (0.0, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Strengths of which all is shown, on scenes of four objects."""

OFFERED = (0.5, 1.0, 2.0, 3.0)
"""Those of the library's own captions."""

FIRST = (1, 3, 6)
"""Oracle@k of these."""

OTHERS = (BEAM, SIBLINGS, TEMPERATURE, NUCLEUS)
LIBRARY = (SHIPPED, SHIPPED_APART)
EVERYBODY = (*OTHERS, GROUPED, DIVERSE, BY_MEAN, *LIBRARY)
MAPPED = (BEAM, DIVERSE, BY_MEAN, *LIBRARY)

ASKED = {
    "more different 4-grams": "distinct-4",
    "oracle@6 higher": "oracle@6",
    "oracle@1 higher": "oracle@1",
    "more of the objects are named": "named",
    "maps differ more": "maps apart",
}
"""What is asked of the library's own captions."""

PAPER = {
    BEAM: ("16.3, 27.3", "0.40, 5.67"),
    SIBLINGS: ("16.4, 27.6", "0.54, 8.94"),
    DIVERSE: ("16.8, 28.1", "0.56, 13.44"),
}
"""Of 20 captions of COCO: SPICE of the first and of the best of 20; distinct-1 and distinct-4 (of another scale)."""


def scenes_of(split: str, objects: int, first: int, number: int) -> list[Scene]:
    """Scenes with so many objects, from a number on."""
    drawn = (scene(split, index) for index in count(first))  # type: ignore[arg-type]
    return list(islice((one for one in drawn if len(one.objects) == objects), number))


@torch.no_grad()
def trunk_features(captioner_network: SeededModel, scenes: list[Scene]) -> Tensor:
    """What a network sees of scenes."""
    images = torch.stack([torch.from_numpy(one.image).permute(2, 0, 1) for one in scenes])
    trunk = captioner_network.model.module.trunk
    parts = [trunk(normalised(part.float() / 255)) for part in images.split(50)]  # type: ignore[operator]
    return torch.cat(parts)


def shifted(found: Estimate, by: float) -> Estimate:
    """The estimate of a difference, so much higher."""
    return replace(found, value=found.value + by, low=found.low + by, high=found.high + by)


def best_of(texts: list[str], people: list[str], k: int) -> float:
    """Oracle@k of one scene."""
    return max(bleu(text, people) for text in texts[:k])


def choose_penalties(seed: int, share: float) -> dict[str, float]:
    """The strengths whose best of six sentences is nearest to what people say, on scenes that are not measured."""
    captioner_network = _captioner(seed)
    scenes = scenes_of("talk-val", max(OBJECT_COUNTS), 10_000 * (seed + 1), scaled(CHOSEN_ON, share))
    features, numbers = trunk_features(captioner_network, scenes), [drawn.index for drawn in scenes]
    people = [[one.text for one in captions(drawn)] for drawn in scenes]

    def quality(decoder: Decoder) -> float:
        told = decode(captioner_network.model, features, decoder, numbers)
        return sum(best_of(one.texts, theirs, BEAMS) for one, theirs in zip(told, people, strict=True))

    return {
        DIVERSE: max(DIVERSITY_PENALTIES, key=lambda diversity_penalty: quality(diverse(BEAMS, diversity_penalty))),
        GROUPED: max(DIVERSITY_PENALTIES, key=lambda diversity_penalty: quality(diverse(3, diversity_penalty))),
        SIBLINGS: max(RATES, key=lambda rate: quality(siblings(rate))),
    }


@zeros_allowed()
def measure_decoders(seed: int, objects: int, diversity_penalties: dict[str, float], share: float) -> Measurements:
    """What every decoder says of scenes of so many objects; where there are most, also maps of what is said."""
    captioner_network, kept = _captioner(seed), Measurements()
    scenes = _test_scenes(seed, objects, share)
    looked_at = scaled(LOOKED_AT, share) if objects == max(OBJECT_COUNTS) else 0
    features, numbers = trunk_features(captioner_network, scenes), [drawn.index for drawn in scenes]
    for who, decoder in decoders(diversity_penalties, captioner_network.seed).items():
        told = decode(captioner_network.model, features, decoder, numbers)
        for number, (drawn, of_one) in enumerate(zip(scenes, told, strict=True)):
            _measure(kept, who, drawn, of_one, seed)
            if number < looked_at and who in MAPPED:
                kept.add("maps apart", who, _apart(captioner_network, drawn, of_one.texts), (seed, drawn.index))
    return kept


def sweep_penalties(seed: int, share: float) -> Measurements:
    """What diverse beam search says at several strengths."""
    captioner_network, kept = _captioner(seed), Measurements()
    scenes = _test_scenes(seed, max(OBJECT_COUNTS), share)
    features, numbers = trunk_features(captioner_network, scenes), [drawn.index for drawn in scenes]
    asked = {f"strength {diversity_penalty:g}": diverse(BEAMS, diversity_penalty) for diversity_penalty in SWEPT}
    asked |= {f"--strength {diversity_penalty:g}": shipped(3, diversity_penalty) for diversity_penalty in OFFERED}
    for who, decoder in asked.items():
        told = decode(captioner_network.model, features, decoder, numbers)
        for drawn, of_one in zip(scenes, told, strict=True):
            _measure(kept, who, drawn, of_one, seed)
    return kept


def _captioner(seed: int) -> SeededModel:
    return captioner(seed, Progress(disable=True), shared=True)


def _train_captioner(seed: int) -> None:
    """Train it, unless it was."""
    _captioner(seed)


def _test_scenes(seed: int, objects: int, share: float) -> list[Scene]:
    return scenes_of("talk-test", objects, 10_000 * (seed + 1), scaled(EACH, share))


def _measure(measurements: Measurements, who: str, drawn: Scene, told: DecodedCaptions, seed: int) -> None:
    people, texts, place = [one.text for one in captions(drawn)], told.texts, (seed, drawn.index)
    objects = len(drawn.objects)
    found = {f"distinct-{n}": distinct([texts], n) for n in (1, 2, 3, 4)}
    found |= {f"oracle@{k}": best_of(texts, people, k) for k in FIRST}
    found["repeated"] = repeated([texts])
    found["alike"] = similarity([texts]) if len(texts) > 1 else 1.0
    spoken = [mention for text in texts for mention in mentions(text, drawn)]
    found["named"] = len({i for one in spoken if one.right for i in one.objects}) / objects
    found["likely"] = told.totals[0]
    for what, value in found.items():
        measurements.add(what, who, value, place)
        measurements.add(f"{what} of {objects}", who, value, place)
    for what in ("true", f"true of {objects}"):
        measurements.add(what, who, (sum(one.right for one in spoken), len(spoken)), place)


def _apart(captioner_network: SeededModel, drawn: Scene, texts: list[str]) -> float:
    """How much the maps of sentences differ."""
    found = explain_captions(captioner_network.model, Image.fromarray(drawn.image), texts).explanation
    numbers = [found.targets[0].index(text) for text in texts]  # what is said twice has one map, and counts twice
    return float(map_distance(found.maps[:, numbers]))


@dataclass(frozen=True)
class DecoderResults:
    """What was measured of sentences, scene after scene.

    Attributes:
        kept: every measure.
    """

    measurements: Measurements

    def report(self) -> str:
        """The tables."""
        return "\n\n".join([self._varied(), self._good(), self._complex(), self._swept(), self._verdicts()])

    def _row(self, who: str, *what: str) -> list[object]:
        return [
            who,
            *(
                estimate(self.measurements.of(one, who)) if (one, who) in self.measurements.values else ""
                for one in what
            ),
        ]

    def _varied(self) -> str:
        grams = [f"distinct-{n}" for n in (1, 2, 3, 4)]
        rows = [
            [*self._row(who, *grams, "repeated", "alike", "maps apart"), PAPER.get(who, ("", ""))[1]]
            for who in EVERYBODY
        ]
        headings = ["decoder", *grams, "repeated", "alike (BLEU)", "maps apart", "paper: distinct-1, -4"]
        return "## How different the six sentences are\n\n" + table(headings, rows)

    def _good(self) -> str:
        oracles = [f"oracle@{k}" for k in FIRST]
        rows = [
            [*self._row(who, *oracles, "named", "true", "likely"), PAPER.get(who, ("", ""))[0]] for who in EVERYBODY
        ]
        headings = ["decoder", *oracles, "objects named", "claims that are true", "log-probability of the first"]
        return "## How good they are\n\n" + table([*headings, "paper: SPICE@1, @20"], rows)

    def _complex(self) -> str:
        rows = [
            [
                who,
                *(
                    estimate(self.measurements.of(f"{what} of {n}", who))
                    for what in ("oracle@6", "named")
                    for n in OBJECT_COUNTS
                ),
            ]
            for who in EVERYBODY
        ]
        headings = [f"{what}, {n} objects" for what in ("oracle@6", "named") for n in OBJECT_COUNTS]
        return "## By how many objects there are\n\n" + table(["decoder", *headings], rows)

    def _swept(self) -> str:
        what = ("distinct-1", "distinct-4", "repeated", "oracle@1", "oracle@6", "named", "true", "likely")
        head = f"## By strength\n\nScenes of {max(OBJECT_COUNTS)} objects."
        for heading, plain, names in (
            (DIVERSE, BEAM, [f"strength {diversity_penalty:g}" for diversity_penalty in SWEPT]),
            (SHIPPED, BY_MEAN, [f"--strength {diversity_penalty:g}" for diversity_penalty in OFFERED]),
        ):
            beams = self._row(plain, *(f"{one} of {max(OBJECT_COUNTS)}" for one in what))
            head += "\n\n" + table([heading, *what], [beams, *(self._row(name, *what) for name in names)])
        return head

    def _verdicts(self) -> str:
        claim = self.measurements.claim
        rows = [
            *(claim(f"More different 4-grams than {who}", "distinct-4", DIVERSE, who) for who in (BEAM, SIBLINGS)),
            claim(
                "… with as many groups as beams than with three groups, each of its own strength",
                "distinct-4",
                DIVERSE,
                GROUPED,
            ),
            *(claim(f"Oracle@6 higher than {who}", "oracle@6", DIVERSE, who) for who in OTHERS),
            claim("The first is better too: oracle@1 higher than beam search", "oracle@1", DIVERSE, BEAM),
            claim("… and likelier", "likely", DIVERSE, BEAM),
            *(claim(f"More of the objects are named than by {who}", "named", DIVERSE, who) for who in OTHERS),
            verdict_row(
                f"What is said is as true: at most {LESS_TRUE:.0%} less than of beam search (difference, plus that)",
                shifted(
                    difference(self.measurements.of("true", DIVERSE), self.measurements.of("true", BEAM)), LESS_TRUE
                ),
            ),
            self._gain("oracle@6"),
            self._gain("named"),
            claim(
                "Different captions look at different places, more than those of beam search",
                "maps apart",
                DIVERSE,
                BEAM,
            ),
            *(
                claim(f"{who} against {BY_MEAN}: {told}", what, who, BY_MEAN)
                for who in LIBRARY
                for told, what in ASKED.items()
            ),
        ]
        return "## Verdicts\n\n" + table(["claim", "difference", "verdict"], rows)

    def _gain(self, what: str) -> list[object]:
        """Whether the gain over beam search is larger with four objects than with two."""
        gains = []
        for objects in (max(OBJECT_COUNTS), min(OBJECT_COUNTS)):
            ours, theirs = (self.measurements.of(f"{what} of {objects}", who) for who in (DIVERSE, BEAM))
            gains.append(Measured(ours.values - theirs.values, ours.scenes))
        return verdict_row(
            f"The gain in {what} over beam search grows with the objects that there are", unpaired_difference(*gains)
        )


HEAD = """# What the paper of Diverse Beam Search claims, in Toybox

Made by `python -m research.claims.diverse_captions{share}` in {minutes:.1f} minutes ({trained}), {workers} networks
at a time. Captions by {seeds} networks (`toybox:captioner` and those trained from other seeds for two fifths as long,
with the same eyes), of {each} scenes of two, three and four objects each; every decoder says {beams} sentences a
scene. Lengths do not count, and sentences are in the order of their log-probability; in the last three rows, as in
the library's own captions, in that of its mean over words, at the strength {strength}. *Distinct-n*: different
n-grams by words, of each scene's sentences together. *Oracle@k*: BLEU-4 (of sacrebleu, counts of two words and more
one larger) of the best of the first k, beside the five sentences of five simulated people. *Objects named*: by the
six sentences together, rightly. *Maps apart*: 1 less the rank correlation of the Grad-CAM of sentences, over all
pairs.

Strengths were chosen as in the paper, by oracle@6 on other scenes (talk-val, four objects), per network: {chosen}.

Intervals are 95 %, by the bootstrap over scenes, of which every network has its own. A claim *holds* if the interval of
the difference lies above zero, *does not hold* if it lies below, and else is *not decidable here*, each by itself; how
far networks differ is not in the intervals. The paper's figures are those of other networks, images and metrics; they
stand here for comparison and are no target. That people prefer the list is not decidable here.
"""


def report(progress: Progress, share: float = 1.0, seeds: int = SEEDS, workers: int = WORKERS) -> str:
    """Measure, and tell it as a page in Markdown."""
    begin, kept = perf_counter(), Measurements()
    run_jobs(_train_captioner, [(seed,) for seed in range(1, seeds)], "training networks", progress, workers)
    trained = perf_counter() - begin
    diversity_penalties = run_jobs(
        choose_penalties, [(seed, share) for seed in range(seeds)], "choosing strengths", progress, workers
    )
    jobs = [
        (seed, objects, diversity_penalties[seed], share)
        for seed in range(seeds)
        for objects in sorted(OBJECT_COUNTS, reverse=True)
    ]
    for part in run_jobs(measure_decoders, jobs, "captions", progress, workers):
        kept.join(part)
    for part in run_jobs(sweep_penalties, [(seed, share) for seed in range(seeds)], "strengths", progress, workers):
        kept.join(part)
    head = HEAD.format(
        share="" if share == 1 else f" --share {share}",
        minutes=(perf_counter() - begin) / 60,
        trained=f"{trained / 60:.1f} of them training" if trained > 60 else "its networks had been trained before",
        workers=workers,
        seeds=seeds,
        each=scaled(EACH, share),
        beams=BEAMS,
        diversity_penalty=DIVERSITY_PENALTY,
        chosen="; ".join(", ".join(f"{who} {value}" for who, value in one.items()) for one in diversity_penalties),
    )
    return f"{head}\n{DecoderResults(kept).report()}"


def main(
    out: Annotated[Path | None, typer.Option(help="The Markdown file to write; else it is printed.")] = None,
    share: Annotated[float, typer.Option(min=0.01, max=1, help="This share of the scenes, to try it out.")] = 1.0,
    seeds: Annotated[int, typer.Option(min=1, max=9, help="How many networks.")] = SEEDS,
    workers: Annotated[
        int, typer.Option(min=1, max=64, help="So many networks at a time, on a thread each.")
    ] = WORKERS,
) -> None:
    """Measure, and print the page. Networks that were trained once are kept under out/claims."""
    run(lambda progress: report(progress, share, seeds, workers), out)


if __name__ == "__main__":
    typer.run(main)
