"""The claims of the Diverse Beam Search paper on visual question generation, measured with questions of Toybox.

    python -m research.claims.diverse_questions
    python -m research.claims.diverse_questions --out docs/claims-diverse-questions.md

Every decoder generates six questions about each scene of two, three or four objects; the references are what five
simulated people ask. Every decoder has the strength that is best on other scenes.
"""

from time import perf_counter
from typing import Annotated

import torch
import typer
from PIL import Image
from rich.progress import Progress
from torch import Tensor

from research.claims.decoder_measures import (
    add_measures,
    best_of,
    measures_of,
    scenes_of,
    trunk_features,
)
from research.claims.decoders import (
    BEAM,
    BEAMS,
    DecodedCaptions,
    Decoder,
    beams,
    decode,
    sampled,
)
from research.claims.language_networks import SeededModel, questioner
from research.claims.maps import MapMeasurements
from research.claims.multiple_testing import RULES, counted, resolved
from research.claims.parallel import WORKERS, run_jobs
from research.claims.question_decoders import EVERYBODY, MAPPED, candidates, opening_only
from research.claims.question_tables import OBJECT_COUNTS, OPENING, QuestionResults
from research.claims.section import run, scaled, zeros_allowed
from research.options import Out, Share, Workers
from saywhy.metrics.consensus import preference
from saywhy.metrics.diversity import map_distance
from saywhy.metrics.question_types import question_type
from saywhy.models import Model, load
from saywhy.tasks.generation.explain import explain_texts
from saywhy.toybox import Scene
from saywhy.toybox.language import asked, question_truth
from saywhy.toybox.recipes.questioner import answers_of

SEEDS = 3

EACH = 170
"""Scenes for every number of objects and every network."""

CHOSEN_ON = 60
"""Scenes of talk-val with four objects on which strengths are chosen."""

MAP_SCENES = 20
"""Scenes of every network for which maps are made."""

PEOPLE = 5
"""Simulated people, each with a question of its own, as in VQG."""


def choose_strengths(seed: int, share: float) -> dict[str, float]:
    """Choose the strength of every decoder with the highest oracle@6, on scenes that are not measured."""
    network = _questioner(seed)
    scenes = scenes_of("talk-val", max(OBJECT_COUNTS), 10_000 * (seed + 1), scaled(CHOSEN_ON, share))
    features, numbers = trunk_features(network, scenes), [drawn.index for drawn in scenes]
    people = [[one.text.rstrip("?") for one in asked(drawn, PEOPLE)] for drawn in scenes]

    def quality(decoder: Decoder) -> float:
        decoded = decode(network.model, features, decoder, numbers)
        return sum(best_of(one.texts, theirs, BEAMS) for one, theirs in zip(decoded, people, strict=True))

    return {
        who: max(decoders, key=lambda strength: quality(decoders[strength]))
        for who, decoders in candidates(_vectors(network), seed).items()
    }


@zeros_allowed()
def measure_questions(seed: int, objects: int, strengths: dict[str, float], share: float) -> MapMeasurements:
    """Measure every decoder on scenes with a given number of objects; with the largest number also its maps."""
    network, vqa, kept = _questioner(seed), load("toybox:vqa"), MapMeasurements()
    scenes = scenes_of("talk-test", objects, 10_000 * (seed + 1), scaled(EACH, share))
    map_scenes = scaled(MAP_SCENES, share) if objects == max(OBJECT_COUNTS) else 0
    features, numbers = trunk_features(network, scenes), [drawn.index for drawn in scenes]
    seen_by_vqa = trunk_features(SeededModel(0, vqa), scenes)
    every = candidates(_vectors(network), seed)
    decoders = {BEAM: beams(), **{who: every[who][strength] for who, strength in strengths.items()}}
    decoders[OPENING] = opening_only(strengths)
    plain: list[list[str]] = []
    for who, decoder in decoders.items():
        decoded = decode(network.model, features, decoder, numbers)
        answers = answers_of(vqa, seen_by_vqa, [one.texts for one in decoded])
        plain = plain or [one.texts for one in decoded]
        for number, (drawn, one) in enumerate(zip(scenes, decoded, strict=True)):
            _measure(kept, who, drawn, one, answers[number], plain[number], seed)
            if number < map_scenes and who in MAPPED:
                kept.add("map distance", who, _apart(network.model, drawn, one.texts), (seed, drawn.index))
    _measure_openings(kept, network, features, scenes)
    return kept


def _questioner(seed: int) -> SeededModel:
    return questioner(seed, Progress(disable=True))


def _vectors(network: SeededModel) -> Tensor:
    """Return the word embeddings of a question generator."""
    found: Tensor = network.model.module.head.embedding.weight.detach()  # type: ignore[union-attr]
    return found


def _train_questioner(seed: int) -> None:
    """Train the question generator of a seed, unless its weights are stored."""
    _questioner(seed)


def _measure(
    measurements: MapMeasurements,
    who: str,
    drawn: Scene,
    decoded: DecodedCaptions,
    answers: list[tuple[str, float]],
    plain: list[str],
    seed: int,
) -> None:
    people, texts = [one.text.rstrip("?") for one in asked(drawn, PEOPLE)], decoded.texts
    truths = [question_truth(text, drawn) for text in texts]
    understood = [one for one in truths if one is not None]
    answerable = [
        (one.answer, answer) for one, (answer, _) in zip(truths, answers, strict=True) if one is not None and one.answer
    ]
    found = measures_of(texts, people)
    found["types"] = len({question_type(text) for text in texts})
    found["Toybox types"] = len({one.type for one in understood})
    found["understood"] = (len(understood), len(texts))
    found["truthful"] = (sum(one.truthful for one in understood), len(texts))
    found["answerable"] = (len(answerable), len(texts))
    found["answered rightly"] = (sum(right == given for right, given in answerable), len(texts))
    found["certainty"] = (sum(probability for _, probability in answers), len(texts))
    found["preferred"] = preference(texts, plain, people)
    found["log-probability"] = decoded.totals[0]
    add_measures(measurements, who, found, len(drawn.objects), (seed, drawn.index))


def _apart(model: Model, drawn: Scene, texts: list[str]) -> float:
    """Return the distance between the maps of questions; repeated ones share a map, and count repeatedly."""
    once = list(dict.fromkeys(texts))
    found = explain_texts(model, Image.fromarray(drawn.image), once, "gradcam", "it is measured only")
    return float(map_distance(found.maps[:, [once.index(text) for text in texts]]))


@torch.no_grad()
def _measure_openings(
    measurements: MapMeasurements, network: SeededModel, features: Tensor, scenes: list[Scene]
) -> None:
    """Measure the share of a text's surprise that is in its first two words, for samples of questions and captions.

    The mean surprise of samples is the entropy: a penalty can change an opening only where the model is undecided.
    """
    for who, model in (("questions", network.model), ("captions", load("toybox:captioner"))):
        trunk = features if who == "questions" else trunk_features(SeededModel(0, model), scenes)
        numbers = [drawn.index for drawn in scenes]
        decoded = decode(model, trunk, sampled(network.seed), numbers)
        for drawn, one in zip(scenes, decoded, strict=True):
            first = -sum(sum(words[:2]) for words in one.by_word)
            measurements.add("opening", who, (first, -sum(one.totals)), (network.seed, drawn.index))


HEAD = """# Claims of the Diverse Beam Search paper on questions, in Toybox

Made by `python -m research.claims.diverse_questions{share}` in {minutes:.1f} minutes ({trained}), {parallel} in
parallel. {seeds} question generators (`toybox:questioner`, and ones trained from other seeds for two fifths as long,
with the same trunk) ask about {each} scenes each of two, three and four objects; every decoder generates {beams}
questions a scene, ranked by log-probability without length normalisation. *Types*: the number of different beginnings
of the six questions (`saywhy.metrics.question_types`), and of the types of Toybox's own grammar. *Distinct-n*: the
number of different n-grams divided by the number of words. *Oracle@k*: BLEU-4 of the best of the first k questions,
against the questions of {people} simulated people. *Truthful*: the share of questions that take nothing for granted
that is wrong (`saywhy.toybox.language.question_truth`); one that is not understood counts as wrong. *Answerable*: those
with one clear answer; *answered rightly*: those that `toybox:vqa` answers so. *Preferred*: the share of scenes where
most of the simulated people find a question closer to theirs than with beam search, in place of the paper's workers.
*Map distance*: 1 less the rank correlation of the Grad-CAM maps of two questions, over all pairs.

Every decoder has the strength with the highest oracle@6 on {chosen_on} other scenes (talk-val, four objects), by
network: {chosen}.

Every network has its own scenes. The paper's figures are those of other networks, images and metrics: they serve for
comparison and are no target. The embedding penalty takes the network's own word embeddings, where the paper takes
word2vec. What people would prefer to read is not decidable here.

{rules}

{verdicts}
"""


def report(progress: Progress, share: float = 1.0, seeds: int = SEEDS, workers: int = WORKERS) -> str:
    """Measure, and return the page as Markdown."""
    begin, kept = perf_counter(), MapMeasurements()
    run_jobs(_train_questioner, [(seed,) for seed in range(1, seeds)], "training networks", progress, workers)
    trained = perf_counter() - begin
    strengths = run_jobs(
        choose_strengths, [(seed, share) for seed in range(seeds)], "choosing strengths", progress, workers
    )
    jobs = [
        (seed, objects, strengths[seed], share)
        for seed in range(seeds)
        for objects in sorted(OBJECT_COUNTS, reverse=True)
    ]
    for part in run_jobs(measure_questions, jobs, "questions", progress, workers):
        kept.join(part)
    tables, verdicts = resolved(QuestionResults(kept).report())
    head = HEAD.format(
        share="" if share == 1 else f" --share {share}",
        minutes=(perf_counter() - begin) / 60,
        trained=f"{trained / 60:.1f} of them training" if trained > 60 else "its networks had been trained before",
        parallel=counted(workers, "network", "networks"),
        seeds=seeds,
        each=scaled(EACH, share),
        beams=BEAMS,
        people=PEOPLE,
        chosen_on=scaled(CHOSEN_ON, share),
        rules=RULES,
        verdicts=verdicts,
        chosen="; ".join(f"{who} {', '.join(f'{one[who]:g}' for one in strengths)}" for who in EVERYBODY[1:]),
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
