"""The claims of HINT for captions, with their controls, on regions of Toybox: a section of the page of HINT.

python -m research.claims.hint_captions
"""

from time import perf_counter
from typing import Annotated

import typer
from rich.progress import Progress

from research.claims.hint_caption_runs import BASE_STEPS, HINTED, SCENES, SETTINGS, STEPS, TESTS, run, train_base
from research.claims.hint_tables import Found, Measure, mean_cell, title_cells, verdict
from research.claims.measure import table
from research.claims.parallel import WORKERS, run_jobs
from research.claims.section import run as run_section
from research.options import Out, Share, Workers
from saywhy.alignment.region_methods import REGION_METHODS

SEEDS = 5

METHODS = tuple(name for name in REGION_METHODS if name != "oracle" and not name.startswith("self-critical"))
"""All but the oracle, which for captions is HINT itself, and self-critical reasoning, which was proposed for VQA."""

CONTROLS = tuple(name for name in METHODS if REGION_METHODS[name].control)
"""What HINT must beat: C1, C3 to C8 and C10."""

MEASURES = (
    Measure("object F1, changed scenes", "test", "object_f1"),
    Measure("rank", "val", "rank"),
    Measure("deletion", "val", "deletion"),
)

RULE = (
    "grounding helped if HINT is better than every control in object F1 on changed scenes, in rank and in deletion; "
    "regularization helped if its object F1 there is better than before and than training without hints; else neither."
)


def section(found: Found, seeds: int, minutes: float) -> str:
    """Return the section."""
    names = list(dict.fromkeys(name for name, _ in found))
    chance = mean_cell(found, "base", "val", "chance")
    changed = mean_cell(found, "base", "test", "chance")
    return f"""## Captions

Made with {seeds} seeds, in {minutes:.0f} minutes. The network is a small up-down captioner (Anderson et al., 2018) on
24 region proposals, trained for {BASE_STEPS:,} steps on {SCENES:,} scenes of `biased-train`, where each kind of object
is nearly always at its home, so that the same kinds occur together. Every run continues from it for {STEPS} steps on
the {HINTED:.0%} of captions with hints, with the cross entropy of the caption and what the run adds, weight
{SETTINGS.weight:g}. An item is a word that names objects; its hint is the masks of these objects. So C11, the true
evidence, is C2 here, and is not run. No scene has two hinted captions, so that hints permuted within an image are of
other objects; captions with one such word have none of these. The zero-out regularizer is of the probabilities of a
softmax: they cannot all be 0, so it evens them out.

Same scenes: {TESTS} of `biased-val`; changed scenes: {TESTS} of `biased-test`, where no kind is at its home, as in the
robust split of COCO. No epoch and no setting was chosen on any test set: the rate and the numbers of steps were chosen
for the time that they take, on training scenes without hints and another seed. Mean and standard
deviation over seeds. Published numbers of HINT for captions could not be read, so there are none to compare with.

### Quality of captions

Cross entropy of a word of people's captions, in nats, lower is better. Of generated captions: object F1, of the kinds
that they name and the kinds in the scene; BLEU-4; kinds, colours: the share of right mentions.

{
        table(
            [
                "run",
                "",
                "cross entropy, training",
                "same scenes",
                "changed scenes",
                "object F1, same scenes",
                "changed scenes",
                "BLEU-4, changed",
                "kinds, changed",
                "colours, changed",
            ],
            [_quality_row(found, name) for name in names],
        )
    }

### Grounding of words

For the words of held-out captions that name objects, given the words before them. Noun: it is the likeliest word there.
Pointing: the region that matters most to the word has its centre in the box of an object that it names; a random region
does for {chance} of the same scenes and {changed} of the changed ones. By attention: the same, of the region that is
attended to most. Share: the part of positive importance that lies on these objects. Rank: Spearman's correlation of
importances with those by the masks. Deletion: how much more the word's probability falls without the four most
important regions than without four random ones. Size: mean absolute importance, which a ranking loss can lower.

{
        table(
            [
                "run",
                "pointing, same scenes",
                "changed",
                "by attention",
                "share",
                "rank",
                "changed",
                "deletion",
                "size",
                "noun",
            ],
            [_grounding_row(found, name) for name in names],
        )
    }

### Verdict

{caption_verdict(found, seeds)}
"""


def caption_verdict(found: Found, seeds: int) -> str:
    """The critique's rule, with the quality of captions in place of accuracy."""
    return verdict(found, seeds, CONTROLS, MEASURES, RULE)


def _quality_row(found: Found, name: str) -> list[object]:
    entropies = [mean_cell(found, name, split, "cross_entropy") for split in ("train", "val", "test")]
    objects = [mean_cell(found, name, split, "object_f1") for split in ("val", "test")]
    rest = [mean_cell(found, name, "test", key) for key in ("bleu", "kind", "colour")]
    return [*title_cells(name), *entropies, *objects, *rest]


def _grounding_row(found: Found, name: str) -> list[object]:
    columns = (
        ("val", "hit"),
        ("test", "hit"),
        ("val", "attention_hit"),
        ("val", "share"),
        ("val", "rank"),
        ("test", "rank"),
        ("val", "deletion"),
        ("val", "size"),
        ("val", "noun"),
    )
    return [name, *(mean_cell(found, name, split, key) for split, key in columns)]


def measure_captions(seeds: int, share: float, workers: int, progress: Progress) -> tuple[Found, float]:
    """Measure all runs of all seeds, in parallel; finished ones are read. Returns them, and the minutes."""
    begin = perf_counter()
    scenes, steps = (max(2, round(n * share)) for n in (SCENES, BASE_STEPS))
    run_jobs(train_base, [(seed, scenes, steps) for seed in range(seeds)], "captioners", progress, workers)
    jobs = [(name, seed, share) for seed in range(seeds) for name in ("base", *METHODS)]
    rows = run_jobs(run, jobs, "runs of captions", progress, workers)
    found = {(name, seed): row for (name, seed, _), row in zip(jobs, rows, strict=True)}
    return found, (perf_counter() - begin) / 60


def main(
    out: Out = None,
    seeds: Annotated[int, typer.Option(min=2, max=20, help="Number of seeds.")] = SEEDS,
    items: Share = 1.0,
    workers: Workers = WORKERS,
) -> None:
    """Train and measure, and print or write the section. Finished runs are stored under out/claims."""

    def report(progress: Progress) -> str:
        found, minutes = measure_captions(seeds, items, workers, progress)
        return section(found, seeds, minutes)

    run_section(report, out)


if __name__ == "__main__":
    typer.run(main)
