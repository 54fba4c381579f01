"""The claims of the Diverse Beam Search paper, measured with captions of Toybox.

    python -m research.claims.diverse_captions
    python -m research.claims.diverse_captions --out docs/claims-diverse-captions.md

Every decoder generates six captions of each scene of two, three or four objects; the references are five captions.
"""

from dataclasses import dataclass
from time import perf_counter
from typing import Annotated

import typer
from PIL import Image
from rich.progress import Progress

from research.claims.decoder_measures import (
    FIRST,
    add_measures,
    best_of,
    gain_row,
    measures_of,
    scenes_of,
    trunk_features,
)
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
from research.claims.maps import MapMeasurements
from research.claims.measure import table
from research.claims.multiple_testing import RULES, counted, resolved
from research.claims.parallel import WORKERS, run_jobs
from research.claims.section import run, scaled, zeros_allowed
from research.options import Out, Share, Workers
from saywhy.metrics.diversity import map_distance
from saywhy.tasks.captioning.caption import explain_captions
from saywhy.tasks.generation.generate import DIVERSITY_PENALTY
from saywhy.toybox import Scene
from saywhy.toybox.language import captions
from saywhy.toybox.language.mentions import mentions

SEEDS = 3
OBJECT_COUNTS = (2, 3, 4)
"""Numbers of objects in a scene, which replace the paper's difficulty of an image."""

EACH = 80
"""Scenes for every number of objects and every network."""

CHOSEN_ON = 60
"""Scenes of talk-val with four objects on which diversity penalties are chosen."""

MAP_SCENES = 20
"""Scenes of every network for which maps are made."""

MARGIN = 0.02
"""Largest loss of correctness that still counts as equally correct."""

SWEPT = (0.0, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Diversity penalties in the sweep, on scenes of four objects."""

OFFERED = (0.5, 1.0, 2.0, 3.0)
"""Diversity penalties in the sweep of the library's own captions."""

OTHERS = (BEAM, SIBLINGS, TEMPERATURE, NUCLEUS)
LIBRARY = (SHIPPED, SHIPPED_APART)
EVERYBODY = (*OTHERS, GROUPED, DIVERSE, BY_MEAN, *LIBRARY)
MAPPED = (BEAM, DIVERSE, BY_MEAN, *LIBRARY)

CLAIMS = {
    "more different 4-grams": "distinct-4",
    "oracle@6 higher": "oracle@6",
    "oracle@1 higher": "oracle@1",
    "more objects are named": "named",
    "maps differ more": "map distance",
}
"""Claims that are tested for the library's own captions, and their measures."""

PAPER = {
    BEAM: ("16.3, 27.3", "0.40, 5.67"),
    SIBLINGS: ("16.4, 27.6", "0.54, 8.94"),
    DIVERSE: ("16.8, 28.1", "0.56, 13.44"),
}
"""Published, for 20 captions on COCO: SPICE of the first and the best of 20; distinct-1, -4 (another scale)."""


def choose_penalties(seed: int, share: float) -> dict[str, float]:
    """Choose the diversity penalties with the highest oracle@6, on scenes that are not measured."""
    captioner_network = _captioner(seed)
    scenes = scenes_of("talk-val", max(OBJECT_COUNTS), 10_000 * (seed + 1), scaled(CHOSEN_ON, share))
    features, numbers = trunk_features(captioner_network, scenes), [drawn.index for drawn in scenes]
    people = [[one.text for one in captions(drawn)] for drawn in scenes]

    def quality(decoder: Decoder) -> float:
        decoded = decode(captioner_network.model, features, decoder, numbers)
        return sum(best_of(one.texts, theirs, BEAMS) for one, theirs in zip(decoded, people, strict=True))

    return {
        DIVERSE: max(DIVERSITY_PENALTIES, key=lambda diversity_penalty: quality(diverse(BEAMS, diversity_penalty))),
        GROUPED: max(DIVERSITY_PENALTIES, key=lambda diversity_penalty: quality(diverse(3, diversity_penalty))),
        SIBLINGS: max(RATES, key=lambda rate: quality(siblings(rate))),
    }


@zeros_allowed()
def measure_decoders(seed: int, objects: int, diversity_penalties: dict[str, float], share: float) -> MapMeasurements:
    """Measure every decoder on scenes with a given number of objects; with the largest number also its maps."""
    captioner_network, kept = _captioner(seed), MapMeasurements()
    scenes = _test_scenes(seed, objects, share)
    map_scenes = scaled(MAP_SCENES, share) if objects == max(OBJECT_COUNTS) else 0
    features, numbers = trunk_features(captioner_network, scenes), [drawn.index for drawn in scenes]
    for who, decoder in decoders(diversity_penalties, captioner_network.seed).items():
        decoded = decode(captioner_network.model, features, decoder, numbers)
        for number, (drawn, of_one) in enumerate(zip(scenes, decoded, strict=True)):
            _measure(kept, who, drawn, of_one, seed)
            if number < map_scenes and who in MAPPED:
                kept.add("map distance", who, _apart(captioner_network, drawn, of_one.texts), (seed, drawn.index))
    return kept


def sweep_penalties(seed: int, share: float) -> MapMeasurements:
    """Measure diverse beam search at several diversity penalties."""
    captioner_network, kept = _captioner(seed), MapMeasurements()
    scenes = _test_scenes(seed, max(OBJECT_COUNTS), share)
    features, numbers = trunk_features(captioner_network, scenes), [drawn.index for drawn in scenes]
    swept_decoders = {
        f"diversity penalty {diversity_penalty:g}": diverse(BEAMS, diversity_penalty) for diversity_penalty in SWEPT
    }
    swept_decoders |= {
        f"--diversity-penalty {diversity_penalty:g}": shipped(3, diversity_penalty) for diversity_penalty in OFFERED
    }
    for who, decoder in swept_decoders.items():
        decoded = decode(captioner_network.model, features, decoder, numbers)
        for drawn, of_one in zip(scenes, decoded, strict=True):
            _measure(kept, who, drawn, of_one, seed)
    return kept


def _captioner(seed: int) -> SeededModel:
    return captioner(seed, Progress(disable=True), shared=True)


def _train_captioner(seed: int) -> None:
    """Train the captioner of a seed, unless its weights are stored."""
    _captioner(seed)


def _test_scenes(seed: int, objects: int, share: float) -> list[Scene]:
    return scenes_of("talk-test", objects, 10_000 * (seed + 1), scaled(EACH, share))


def _measure(
    measurements: MapMeasurements, who: str, drawn: Scene, captions_of_one: DecodedCaptions, seed: int
) -> None:
    people, texts, place = [one.text for one in captions(drawn)], captions_of_one.texts, (seed, drawn.index)
    objects = len(drawn.objects)
    found = measures_of(texts, people)
    mentioned = [mention for text in texts for mention in mentions(text, drawn)]
    found["named"] = len({i for one in mentioned if one.right for i in one.objects}) / objects
    found["log-probability"] = captions_of_one.totals[0]
    found["correct"] = (sum(one.right for one in mentioned), len(mentioned))
    add_measures(measurements, who, found, objects, place)


def _apart(captioner_network: SeededModel, drawn: Scene, texts: list[str]) -> float:
    """Return the distance between the maps of captions."""
    found = explain_captions(captioner_network.model, Image.fromarray(drawn.image), texts, "gradcam").explanation
    numbers = [found.targets[0].index(text) for text in texts]  # repeated captions share a map, and count repeatedly
    return float(map_distance(found.maps[:, numbers]))


@dataclass(frozen=True)
class DecoderResults:
    """Measurements of captions, by scene.

    Attributes:
        kept: every measure.
    """

    measurements: MapMeasurements

    def report(self) -> str:
        """Return the tables."""
        return "\n\n".join([self._varied(), self._good(), self._complex(), self._swept(), self._verdicts()])

    def _row(self, who: str, *what: str) -> list[object]:
        return [who, *(self.measurements.cell(one, who) for one in what)]

    def _varied(self) -> str:
        grams = [f"distinct-{n}" for n in (1, 2, 3, 4)]
        rows = [
            [*self._row(who, *grams, "repeated", "similarity", "map distance"), PAPER.get(who, ("", ""))[1]]
            for who in EVERYBODY
        ]
        headings = ["decoder", *grams, "repeated", "similarity (BLEU)", "map distance", "paper: distinct-1, -4"]
        return "## Diversity of the six captions\n\n" + table(headings, rows)

    def _good(self) -> str:
        oracles = [f"oracle@{k}" for k in FIRST]
        rows = [
            [*self._row(who, *oracles, "named", "correct", "log-probability"), PAPER.get(who, ("", ""))[0]]
            for who in EVERYBODY
        ]
        headings = ["decoder", *oracles, "objects named", "statements correct", "log-probability of the first"]
        return "## Quality\n\n" + table([*headings, "paper: SPICE@1, @20"], rows)

    def _complex(self) -> str:
        rows = [
            self._row(who, *(f"{what} of {n}" for what in ("oracle@6", "named") for n in OBJECT_COUNTS))
            for who in EVERYBODY
        ]
        headings = [f"{what}, {n} objects" for what in ("oracle@6", "named") for n in OBJECT_COUNTS]
        return "## By number of objects\n\n" + table(["decoder", *headings], rows)

    def _swept(self) -> str:
        what = ("distinct-1", "distinct-4", "repeated", "oracle@1", "oracle@6", "named", "correct", "log-probability")
        head = f"## By diversity penalty\n\nScenes of {max(OBJECT_COUNTS)} objects."
        for heading, plain, names in (
            (DIVERSE, BEAM, [f"diversity penalty {diversity_penalty:g}" for diversity_penalty in SWEPT]),
            (SHIPPED, BY_MEAN, [f"--diversity-penalty {diversity_penalty:g}" for diversity_penalty in OFFERED]),
        ):
            beams = self._row(plain, *(f"{one} of {max(OBJECT_COUNTS)}" for one in what))
            head += "\n\n" + table([heading, *what], [beams, *(self._row(name, *what) for name in names)])
        return head

    def _verdicts(self) -> str:
        claim = self.measurements.claim
        rows = [
            *(claim(f"More different 4-grams than {who}", "distinct-4", DIVERSE, who) for who in (BEAM, SIBLINGS)),
            claim(
                "… with as many groups as beams than with three groups, each with its own penalty",
                "distinct-4",
                DIVERSE,
                GROUPED,
            ),
            *(claim(f"Oracle@6 higher than {who}", "oracle@6", DIVERSE, who) for who in OTHERS),
            claim("The first caption is better too: oracle@1 higher than beam search", "oracle@1", DIVERSE, BEAM),
            claim("… and more probable", "log-probability", DIVERSE, BEAM),
            *(claim(f"More objects are named than by {who}", "named", DIVERSE, who) for who in OTHERS),
            claim(
                f"Captions are as correct: at most {MARGIN:.0%} less than beam search (difference plus margin)",
                "correct",
                DIVERSE,
                BEAM,
                -MARGIN,
            ),
            self._gain("oracle@6"),
            self._gain("named"),
            claim(
                "Diverse captions have more different maps than those of beam search",
                "map distance",
                DIVERSE,
                BEAM,
            ),
            *(
                claim(f"{who} against {BY_MEAN}: {claimed}", what, who, BY_MEAN)
                for who in LIBRARY
                for claimed, what in CLAIMS.items()
            ),
        ]
        return "## Verdicts\n\n" + table(["claim", "difference", "verdict"], rows)

    def _gain(self, what: str) -> list[object]:
        """Return the verdict row: is the gain over beam search larger with four objects than with two?"""
        return gain_row(
            self.measurements,
            f"The gain in {what} over beam search grows with the number of objects",
            what,
            (DIVERSE, BEAM),
            OBJECT_COUNTS,
        )


HEAD = """# Claims of the Diverse Beam Search paper, in Toybox

Made by `python -m research.claims.diverse_captions{share}` in {minutes:.1f} minutes ({trained}), {parallel} in
parallel. {seeds} networks (`toybox:captioner`, and ones trained from other seeds for two fifths as long, with the same
trunk) caption {each} scenes each of two, three and four objects; every decoder generates {beams} captions a scene.
Captions are ranked by log-probability without length normalisation; in the last three rows, as in the library's own
captions, by the mean log-probability of a word, at a diversity penalty of {diversity_penalty}. *Distinct-n*: the number
of different n-grams divided by the number of words, over all captions of a scene. *Oracle@k*: BLEU-4 (sacrebleu, with
add-one smoothing from bigrams on) of the best of the first k captions, against the five captions of five simulated
people. *Objects named*: the share of objects that the six captions together name correctly. *Map distance*: 1 less the
rank correlation of the Grad-CAM maps of two captions, over all pairs.

Diversity penalties were chosen as in the paper, by oracle@6 on other scenes (talk-val, four objects), for every
network: {chosen}.

Every network has its own scenes. The paper's figures are those of other networks, images and metrics: they serve for
comparison and are no target. Whether people prefer diverse captions is not decidable here.

{rules}

{verdicts}
"""


def report(progress: Progress, share: float = 1.0, seeds: int = SEEDS, workers: int = WORKERS) -> str:
    """Measure, and return the page as Markdown."""
    begin, kept = perf_counter(), MapMeasurements()
    run_jobs(_train_captioner, [(seed,) for seed in range(1, seeds)], "training networks", progress, workers)
    trained = perf_counter() - begin
    diversity_penalties = run_jobs(
        choose_penalties, [(seed, share) for seed in range(seeds)], "choosing diversity penalties", progress, workers
    )
    jobs = [
        (seed, objects, diversity_penalties[seed], share)
        for seed in range(seeds)
        for objects in sorted(OBJECT_COUNTS, reverse=True)
    ]
    for part in run_jobs(measure_decoders, jobs, "captions", progress, workers):
        kept.join(part)
    for part in run_jobs(
        sweep_penalties, [(seed, share) for seed in range(seeds)], "diversity penalties", progress, workers
    ):
        kept.join(part)
    tables, verdicts = resolved(DecoderResults(kept).report())
    head = HEAD.format(
        share="" if share == 1 else f" --share {share}",
        minutes=(perf_counter() - begin) / 60,
        trained=f"{trained / 60:.1f} of them training" if trained > 60 else "its networks had been trained before",
        parallel=counted(workers, "network", "networks"),
        seeds=seeds,
        each=scaled(EACH, share),
        beams=BEAMS,
        diversity_penalty=DIVERSITY_PENALTY,
        rules=RULES,
        verdicts=verdicts,
        chosen="; ".join(", ".join(f"{who} {value}" for who, value in one.items()) for one in diversity_penalties),
    )
    return f"{head}\n{tables}"


def main(
    out: Out = None,
    share: Share = 1.0,
    seeds: Annotated[int, typer.Option(min=1, max=9, help="Number of networks.")] = SEEDS,
    workers: Workers = WORKERS,
) -> None:
    """Measure, and print or write the page. Trained networks are stored under out/claims."""
    run(lambda progress: report(progress, share, seeds, workers), out)


if __name__ == "__main__":
    typer.run(main)
