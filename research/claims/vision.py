"""The claims of the Grad-CAM and RSI-Grad-CAM papers on classifiers: all sections on one page.

    python -m research.claims.vision  # every section; networks are trained first where they are missing
    python -m research.claims.vision --out docs/claims-vision.md
    python -m research.claims.vision --only localization --share 0.1

Sections are stored under out/claims, so that a stopped run continues; ``--again`` measures them again. They are stored
with the p-values of their claims instead of verdicts, which depend on all verdicts of the page.
"""

import re
from collections.abc import Callable
from importlib import import_module
from time import perf_counter
from typing import Annotated

import typer
from rich.progress import Progress

from research.claims.language_networks import FOLDER
from research.claims.multiple_testing import RULES, resolved
from research.claims.section import run
from research.options import Out, Share
from saywhy.io.atomic import atomic_write

SECTIONS = ("localization", "ablation", "pointing", "faithfulness", "class_discrimination", "diagnosis", "saturation")
"""Modules of this package, each with a ``report``."""

HEAD = """# Claims on classifiers

Made by `python -m research.claims.vision{share}`. Every section is also a command (`python -m research.claims.NAME`);
most accept `--data voc:PATH` (or `imagenet:`, `coco:`) and `--model` for the papers' own data. Measured on Toybox,
where the correct regions are known, with three networks (the shipped one and two more seeds), and on real networks
and photographs where stated. The papers' figures are those of other networks, images and people: they serve for
comparison and are no target.

{rules}

{verdicts}

| Grad-CAM's claim | where |
| --- | --- |
| 1 no change of the network, no retraining | [all tested architectures](coverage.md) |
| 2 generalises CAM | equal where a network ends in pooling and one linear layer: [parity](parity.md) |
| 3 class-discriminative | class discrimination, below |
| 4 localisation | localisation, below |
| 5 seeds for segmentation | not decidable here: needs a segmentation network trained on PASCAL VOC |
| 6 pointing with rejection | pointing, below |
| 7 trust | trust, below, by a proxy for people |
| 8 faithful | faithfulness, below |
| 9 robust to adversarial images | adversarial images, below |
| 10 finds a data set's bias | bias, below |
| 11 textual explanations | qualitative in the paper; `saywhy textual` |
| 12, 13 captions and questions | [claims of captions and questions](claims-language.md) |
| 14 deep layers, mean pooling and ReLU are better | ablations, below |

Total: {whole:.0f} minutes on two cores, including the training of networks. Minutes by section: {times}.
"""


STORED = re.compile(r"Section with p-values, measured in ([0-9.]+) minutes\.\n")
"""The first line of a stored section. Files without it are older, and hold verdicts that cannot be corrected."""


def section(name: str, progress: Progress, share: float, again: bool) -> tuple[str, float]:
    """Return the text of a section, with p-values for verdicts, and its minutes.

    They are read from the stored file; without one, or from an older one without p-values, the section is measured.
    """
    kept = FOLDER / f"vision-{name}{'' if share == 1 else f'-{share}'}.md"
    stored = kept.read_text(encoding="utf-8") if kept.exists() and not again else ""
    if not (begins := STORED.match(stored)):
        begin = perf_counter()
        report: Callable[..., str] = import_module(f"research.claims.{name}").report
        text = report(progress, share).strip()
        minutes = (perf_counter() - begin) / 60
        with atomic_write(kept) as temporary:
            line = f"Section with p-values, measured in {minutes:.2f} minutes.\n"
            temporary.write_text(f"{line}{text}\n", encoding="utf-8")
        return text, minutes
    return stored[begins.end() :], float(begins[1])


def page(names: tuple[str, ...], progress: Progress, share: float, again: bool) -> str:
    """Return the page with all sections."""
    bar, found = progress.add_task("sections", total=len(names), loss=""), {}
    for name in names:
        found[name] = section(name, progress, share, again)
        progress.advance(bar)
    times = ", ".join(f"{name} {minutes:.1f}" for name, (_, minutes) in found.items())
    whole = sum(minutes for _, minutes in found.values())
    body, verdicts = resolved("\n\n".join(text.strip() for text, _ in found.values()))
    head = HEAD.format(
        share="" if share == 1 else f" --share {share}", rules=RULES, verdicts=verdicts, whole=whole, times=times
    ).strip()
    if missing := [name for name in SECTIONS if name not in names]:
        head += f"\n\n**Not measured, and not on this page**: {', '.join(missing)}."
    return f"{head}\n\n{body}"


def main(
    only: Annotated[list[str] | None, typer.Option(help=f"Sections: {', '.join(SECTIONS)}.")] = None,
    share: Share = 1.0,
    again: Annotated[bool, typer.Option(help="Measure stored sections again.")] = False,
    out: Out = None,
) -> None:
    """Measure the sections, and print or write the page."""
    names = tuple(only or SECTIONS)
    if unknown := [name for name in names if name not in SECTIONS]:
        raise typer.BadParameter(f"expected one of {', '.join(SECTIONS)}, got '{unknown[0]}'.")
    run(lambda progress: page(names, progress, share, again), out)


if __name__ == "__main__":
    typer.run(main)
