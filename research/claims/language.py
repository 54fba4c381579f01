"""What Grad-CAM's paper says of captions and of questions (sections 8.1 and 8.2), and whether it holds in Toybox.

    python -m research.claims.language                       # three networks of each, two of which are trained first
    python -m research.claims.language --out docs/claims-language.md

Every network is measured on other items of the test split. Intervals are 95 %, by the bootstrap over scenes.
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
from research.claims.vqa_maps import QuestionResults, correctly_answered
from saywhy.errors import SaywhyWarning
from saywhy.io.atomic import atomic_write
from saywhy.toybox import scene

SEEDS = 3
QUESTIONS, COVERED, IMAGES = 250, 170, 170
"""Items of a network: questions, those of them whose image is covered in parts, captioned images."""

HEAD = """# What the papers claim of captions and questions, in Toybox

Made by `python -m research.claims.language` with {seeds} networks of each kind{share}, in {minutes:.0f} minutes
({trained}). The first network is the one that ships; the others are trained from other seeds, two fifths as long, on
{scenes:,} scenes. All items are of the test split, those of each network others. Intervals are 95 %, by the bootstrap
over scenes; how far networks differ is not in them, and is told beside. A claim *holds* if the interval of the
difference lies above zero, *does not hold* if it lies below, and else is *not decidable here*; each by itself, so that
of forty differences that are none one would hold by chance. The paper's figures are those of real images and real
people; they stand here for comparison and are no target.
"""


def main(
    out: Annotated[Path | None, typer.Option(help="The Markdown file to write; else it is printed.")] = None,
    seeds: Annotated[int, typer.Option(min=1, max=9, help="How many networks.")] = SEEDS,
    items: Annotated[float, typer.Option(min=0.01, max=1, help="This share of the items, to try it out.")] = 1.0,
) -> None:
    """Measure, and print the tables. Networks that were trained once are kept under out/claims."""
    begin = perf_counter()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    asked, spoken, trained = QuestionResults(), CaptionResults(), 0.0
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
                asked.add(item, covers=number < items * COVERED)
                progress.advance(bar)
            bar = progress.add_task(f"captions, network {seed}", total=int(items * IMAGES), loss="")
            for index in scenes_of(seed)[: int(items * IMAGES)]:
                spoken.add(captioner_network, scene("talk-test", index))
                progress.advance(bar)
    told = f"{trained / 60:.0f} of them to train the others" if trained > 60 else "the networks were there already"
    share = "" if items == 1 else f" and {items:.0%} of the items"
    head = HEAD.format(seeds=seeds, share=share, minutes=(perf_counter() - begin) / 60, trained=told, scenes=SCENES)
    text = f"{head}\n{spoken.report()}\n\n{asked.report()}\n"
    if out is None:
        print(text)
        return
    with atomic_write(out) as temporary:
        temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
