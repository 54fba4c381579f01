"""The claims of Grad-CAM's paper on captions and VQA (sections 8.1 and 8.2), measured in Toybox.

    python -m research.claims.language                       # three networks of each, two of which are trained first
    python -m research.claims.language --out docs/claims-language.md

Every network has its own items of the test split.
"""

import warnings
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from research.claims.caption_maps import CaptionResults
from research.claims.language_networks import SCENES, captioner, scenes_of, vqa_network
from research.claims.multiple_testing import RULES, resolved
from research.claims.vqa_maps import QuestionResults, correctly_answered
from saywhy.errors import SaywhyWarning
from saywhy.io.atomic import atomic_write
from saywhy.toybox import scene

SEEDS = 3
QUESTIONS, COVERED, IMAGES = 250, 170, 170
"""Items for each network: questions, those with occlusion and covering, and captioned images."""

HEAD = """# Claims on captions and questions, in Toybox

Made by `python -m research.claims.language` with {seeds} networks of each kind{share}, in {minutes:.0f} minutes
({trained}). The first network is the shipped one; the others are trained from other seeds, two fifths as long, on
{scenes:,} scenes. All items are of the test split; each network has its own. The paper's figures are those of real
images and real people: they serve for comparison and are no target.

{rules}

{verdicts}
"""


def main(
    out: Annotated[Path | None, typer.Option(help="The Markdown file to write; printed by default.")] = None,
    seeds: Annotated[int, typer.Option(min=1, max=9, help="Number of networks.")] = SEEDS,
    items: Annotated[float, typer.Option(min=0.01, max=1, help="Share of the items, for a quick run.")] = 1.0,
) -> None:
    """Measure, and print or write the page. Trained networks are stored under out/claims."""
    begin = perf_counter()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    questions, captions, trained = QuestionResults(), CaptionResults(), 0.0
    with (
        warnings.catch_warnings(action="ignore", category=SaywhyWarning),  # maps of zeros are counted
        Progress(*columns, TextColumn("{task.fields[loss]}"), console=Console(stderr=True)) as progress,
    ):
        for seed in range(seeds):
            started = perf_counter()
            vqa, captioner_network = vqa_network(seed, progress), captioner(seed, progress)
            trained += perf_counter() - started
            bar = progress.add_task(f"questions, network {seed}", total=int(items * QUESTIONS), loss="")
            for number, item in enumerate(islice(correctly_answered(vqa), int(items * QUESTIONS))):
                questions.add(item, covers=number < items * COVERED)
                progress.advance(bar)
            bar = progress.add_task(f"captions, network {seed}", total=int(items * IMAGES), loss="")
            for index in scenes_of(seed)[: int(items * IMAGES)]:
                captions.add(captioner_network, scene("talk-test", index))
                progress.advance(bar)
    training = (
        f"{trained / 60:.0f} of them to train the others" if trained > 60 else "the networks had been trained before"
    )
    share = "" if items == 1 else f" and {items:.0%} of the items"
    sections, verdicts = resolved(f"{captions.report()}\n\n{questions.report()}")
    head = HEAD.format(
        seeds=seeds,
        share=share,
        minutes=(perf_counter() - begin) / 60,
        trained=training,
        scenes=SCENES,
        rules=RULES,
        verdicts=verdicts,
    )
    text = f"{head}\n{sections}\n"
    if out is None:
        print(text)
        return
    with atomic_write(out) as temporary:
        temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
