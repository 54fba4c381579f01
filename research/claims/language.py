"""The claims of Grad-CAM's paper on captions and VQA (sections 8.1 and 8.2), measured in Toybox.

    python -m research.claims.language                       # three networks of each, two of which are trained first
    python -m research.claims.language --out docs/claims-language.md

Every network has its own items of the test split.
"""

from itertools import islice
from time import perf_counter
from typing import Annotated

import typer
from rich.progress import Progress

from research.claims.caption_maps import CaptionResults
from research.claims.language_networks import SCENES, captioner, scenes_of, vqa_network
from research.claims.multiple_testing import RULES, resolved
from research.claims.parallel import WORKERS, run_jobs
from research.claims.section import run, scaled, zeros_allowed
from research.claims.vqa_maps import QuestionResults, correctly_answered
from research.options import Out, Share, Workers
from saywhy.toybox import scene

SEEDS = 3
QUESTIONS, COVERED, IMAGES = 250, 170, 170
"""Items for each network: questions, those with occlusion and covering, and captioned images."""

HEAD = """# Claims on captions and questions, in Toybox

Made by `python -m research.claims.language{share}` with {seeds} networks of each kind, in {minutes:.0f} minutes with
{workers} processes of one thread each ({trained}). The first network is the shipped one; the others are trained from
other seeds, two fifths as long, on {scenes:,} scenes. All items are of the test split; each network has its own. The
paper's figures are those of real images and real people: they serve for comparison and are no target.

{rules}

{verdicts}
"""


def report(progress: Progress, share: float = 1.0, seeds: int = SEEDS, workers: int = WORKERS) -> str:
    """Measure, and return the page as Markdown. Trained networks are stored under out/claims."""
    begin = perf_counter()
    run_jobs(_train, [(seed,) for seed in range(1, seeds)], "training networks", progress, workers)
    trained = (perf_counter() - begin) / 60
    jobs = [(kind, seed, share) for kind in ("questions", "captions") for seed in range(seeds)]
    parts = run_jobs(_measure, jobs, "questions and captions", progress, workers)
    questions, captions = QuestionResults(), CaptionResults()
    for part in parts:
        if isinstance(part, QuestionResults):
            questions.join(part)
        else:
            captions.join(part)
    sections, verdicts = resolved(f"{captions.report()}\n\n{questions.report()}")
    head = HEAD.format(
        share="" if share == 1 else f" --share {share}",
        seeds=seeds,
        minutes=(perf_counter() - begin) / 60,
        workers=workers,
        trained=f"{trained:.0f} of them training" if trained > 1 else "the networks had been trained before",
        scenes=SCENES,
        rules=RULES,
        verdicts=verdicts,
    )
    return f"{head}\n{sections}"


def _train(seed: int) -> None:
    with Progress(disable=True) as progress:
        captioner(seed, progress)  # trains the VQA network before it


@zeros_allowed()
def _measure(kind: str, seed: int, share: float) -> QuestionResults | CaptionResults:
    with Progress(disable=True) as progress:
        if kind == "questions":
            questions, network = QuestionResults(), vqa_network(seed, progress)
            for number, item in enumerate(islice(correctly_answered(network), scaled(QUESTIONS, share))):
                questions.add(item, covers=number < scaled(COVERED, share))
            return questions
        captions, network = CaptionResults(), captioner(seed, progress)
        for index in scenes_of(seed)[: scaled(IMAGES, share)]:
            captions.add(network, scene("talk-test", index))
        return captions


def main(
    out: Out = None,
    seeds: Annotated[int, typer.Option(min=1, max=9, help="Number of networks.")] = SEEDS,
    share: Share = 1.0,
    workers: Workers = WORKERS,
) -> None:
    """Measure, and print or write the page."""
    run(lambda progress: report(progress, share, seeds, workers), out)


if __name__ == "__main__":
    typer.run(main)
