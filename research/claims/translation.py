"""The translation experiment of the Diverse Beam Search paper, with a made-up language pair of known synonyms.

    python -m research.claims.translation
    python -m research.claims.translation --out docs/claims-translation.md

A small encoder-decoder of transformers learns the pair (:mod:`research.claims.toy_languages`). Every word has several
translations that are equally likely, so it is known which six translations would show them all.
"""

from dataclasses import dataclass
from time import perf_counter
from typing import Annotated

import torch
import typer
from rich.progress import Progress
from torch import Tensor

from research.claims.decoder_measures import FIRST, best_of, measures_of
from research.claims.decoders import BEAM, BEAMS, Decoder, beams
from research.claims.maps import MapMeasurements
from research.claims.measure import table
from research.claims.multiple_testing import RULES, counted, resolved
from research.claims.parallel import WORKERS, run_jobs
from research.claims.question_decoders import DIVERSE, EVERYBODY, GROUPED, OTHERS, candidates
from research.claims.section import run, scaled
from research.claims.toy_languages import (
    Translator,
    covered,
    decode_words,
    draw,
    encode,
    train_translator,
    translations,
)
from research.options import Out, Share, Workers
from saywhy.decoding.transformers_generation import generation

SEEDS = 3

STEPS = 600
"""Training steps of a translator."""

CHOSEN_ON = 26
"""Held-out sentences on which strengths are chosen; the other 50 are measured."""

MAX_LENGTH = 8

TRANSFORMERS = "`generate` of transformers, 6 beams"

PAPER = {
    BEAM: ("13.52, 18.44", "0.04, 3.23"),
    OTHERS[1]: ("13.63, 18.34", "0.04, 4.61"),
    DIVERSE: ("13.69, 18.77", "0.06, 5.54"),
}
"""Published, English to French, 20 translations: BLEU-4 of the first and the best of 20; distinct-1, -4."""

Sentence = tuple[str, ...]


def translate(translator: Translator, some: list[Sentence], decoder: Decoder) -> list[list[str]]:
    """Return the translations of sentences by a decoder, the likeliest first."""
    ids = encode(some)
    ready = generation(translator.model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)})
    found = decoder(
        ready.step,
        ready.state,
        ready.start,
        end=ready.end,
        numbers=range(len(some)),
        max_length=MAX_LENGTH,
        suppress_tokens=ready.suppress_tokens,
    )
    return [
        [decode_words(found.sentence(i, place)) for place in range(int(found.exists[i].sum()))]
        for i in range(len(some))
    ]


@torch.no_grad()
def generate_with_transformers(translator: Translator, some: list[Sentence]) -> list[list[str]]:
    """Return the translations of sentences by beam search of transformers, the likeliest first."""
    ids, model = encode(some), translator.model
    found = model.generate(  # type: ignore[operator]
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        num_beams=BEAMS,
        num_return_sequences=BEAMS,
        max_new_tokens=MAX_LENGTH,
        length_penalty=0.0,
        early_stopping=False,
        do_sample=False,
    )
    rows = found.unflatten(0, (len(some), BEAMS)).tolist()
    special = {model.config.pad_token_id, model.config.bos_token_id}  # type: ignore[union-attr]
    return [[decode_words([n for n in row if n not in special]) for row in of_one] for of_one in rows]


def reference(sentence: Sentence, seed: int, number: int) -> str:
    """Return a translation by one simulated person, drawn from all that are right."""
    return " ".join(draw(sentence, torch.Generator().manual_seed(1_000 * seed + number)))


def measure_translations(seed: int, share: float) -> tuple[MapMeasurements, dict[str, float], float]:
    """Train, choose the strengths, and measure every decoder; also return the strengths, and the cross entropy."""
    translator, kept = train_translator(seed, max(100, round(STEPS * share))), MapMeasurements()
    people = [reference(sentence, seed, number) for number, sentence in enumerate(translator.held_out)]
    chosen_on = scaled(CHOSEN_ON, share)
    every = candidates(_vectors(translator), seed)

    def quality(decoder: Decoder) -> float:
        texts = translate(translator, translator.held_out[:chosen_on], decoder)
        return sum(best_of(one, [theirs], BEAMS) for one, theirs in zip(texts, people, strict=False))

    strengths = {
        who: max(decoders, key=lambda strength: quality(decoders[strength])) for who, decoders in every.items()
    }
    decoders = {BEAM: beams(), **{who: every[who][strength] for who, strength in strengths.items()}}
    some = translator.held_out[CHOSEN_ON:][: scaled(len(translator.held_out) - CHOSEN_ON, share)]
    found = {who: translate(translator, some, decoder) for who, decoder in decoders.items()}
    found[TRANSFORMERS] = generate_with_transformers(translator, some)
    for who, texts in found.items():
        for number, (sentence, of_one) in enumerate(zip(some, texts, strict=True)):
            right = sum(text in translations(sentence) for text in of_one)
            measures = measures_of(of_one, [people[CHOSEN_ON + number]])
            measures |= {"right": (right, len(of_one)), "synonyms": covered(sentence, of_one)}
            for what, value in measures.items():
                kept.add(what, who, value, (seed, number))
    return kept, strengths, translator.cross_entropy


def _vectors(translator: Translator) -> Tensor:
    found: Tensor = translator.model.get_input_embeddings().weight.detach()  # type: ignore[operator]
    return found


@dataclass(frozen=True)
class TranslationResults:
    """Measurements of translations, by sentence.

    Attributes:
        measurements: every measure.
    """

    measurements: MapMeasurements

    def report(self) -> str:
        """Return the tables."""
        what = (
            "synonyms",
            "right",
            "repeated",
            *(f"distinct-{n}" for n in (1, 2, 3, 4)),
            *(f"oracle@{k}" for k in FIRST),
        )
        rows = [
            [who, *(self.measurements.cell(one, who) for one in what), *PAPER.get(who, ("", ""))]
            for who in (*EVERYBODY, TRANSFORMERS)
        ]
        head = ["decoder", "synonyms shown", *what[1:], "paper: BLEU@1, @20", "paper: distinct-1, -4"]
        claim = self.measurements.claim
        verdicts = [
            *(claim(f"More synonyms are shown than by {who}", "synonyms", DIVERSE, who) for who in OTHERS),
            claim("… with as many groups as beams than with half as many", "synonyms", DIVERSE, GROUPED),
            *(claim(f"More different 4-grams than {who}", "distinct-4", DIVERSE, who) for who in OTHERS),
            *(claim(f"Oracle@6 higher than {who}", "oracle@6", DIVERSE, who) for who in OTHERS),
            *(claim(f"More translations are right than of {who}", "right", DIVERSE, who) for who in OTHERS[2:]),
        ]
        return (
            f"## Six translations\n\n{table(head, rows)}\n\n"
            f"## Verdicts\n\n{table(['claim', 'difference', 'verdict'], verdicts)}"
        )


HEAD = """# Translation with diverse beam search, in a made-up language pair

Made by `python -m research.claims.translation{share}` in {minutes:.1f} minutes, {parallel} in parallel. {seeds}
small BARTs (transformers) were trained for {steps} steps; the loss of a translation was {loss} nats at the end, that of
the languages is 4.28. Every word has two or three translations, each as likely as the others. Every decoder makes
{beams} translations, ranked by log-probability. *Synonyms shown*: the share of the translations of all words of a
sentence that occur in a right one of the six. *Right*: translations that follow the grammar. *Oracle@k*: BLEU-4 of the
best of the first k, against one translation that is drawn from all right ones.

Every decoder has the strength with the highest oracle@6 on other held-out sentences, by network: {chosen}.

The paper's figures are those of other networks and languages: they serve for comparison and are no target.

{rules}

{verdicts}
"""


def report(progress: Progress, share: float = 1.0, seeds: int = SEEDS, workers: int = WORKERS) -> str:
    """Measure, and return the page as Markdown."""
    begin, kept = perf_counter(), MapMeasurements()
    parts = run_jobs(measure_translations, [(seed, share) for seed in range(seeds)], "translators", progress, workers)
    for part, _, _ in parts:
        kept.join(part)
    tables, verdicts = resolved(TranslationResults(kept).report())
    head = HEAD.format(
        share="" if share == 1 else f" --share {share}",
        minutes=(perf_counter() - begin) / 60,
        parallel=counted(workers, "network", "networks"),
        seeds=seeds,
        steps=max(100, round(STEPS * share)),
        loss=", ".join(f"{loss:.2f}" for _, _, loss in parts),
        beams=BEAMS,
        chosen="; ".join(f"{who} {', '.join(f'{one[who]:g}' for _, one, _ in parts)}" for who in EVERYBODY[1:]),
        rules=RULES,
        verdicts=verdicts,
    )
    return f"{head}\n{tables}"


def main(
    out: Out = None,
    share: Share = 1.0,
    seeds: Annotated[int, typer.Option(min=1, max=9, help="Number of networks.")] = SEEDS,
    workers: Workers = WORKERS,
) -> None:
    """Train, measure, and print or write the page."""
    run(lambda progress: report(progress, share, seeds, workers), out)


if __name__ == "__main__":
    typer.run(main)
