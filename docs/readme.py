"""Makes the tables of README.md anew: methods and metrics from the registries, the comparison from the measured pages.

Run it as ``python -m docs.readme``.
"""

import re
from pathlib import Path

from saywhy.cli.pages import with_tables
from saywhy.io.atomic import atomic_write

DOCS = Path(__file__).parent
README = DOCS.parent / "README.md"

PACKAGES = ("saywhy", "pytorch-grad-cam", "torch-cam", "captum")

WRITTEN = (
    (
        "Grad-CAM of a ViT",
        "`saywhy.explain(vit, x)`",
        "needs `reshape_transform`, which you write",
        "takes the patch embedding",
        "averages over the embedding: [1, 1, 768]",
    ),
    ("the layer", "found, and its layout proved", "you name it", "the last convolution", "you name it"),
    (
        "can the map be trusted?",
        "seven checks, a verdict",
        "metrics, e.g. ROAD",
        "average drop",
        "infidelity, sensitivity",
    ),
    ("answers, captions, counts", "`ask`, `caption`, `count`", "–", "–", "with code of yours"),
)
"""The rows that say what each package does."""

MEASURED = (
    ("one Grad-CAM of ResNet-50, in passes", "benchmarks.md", "Grad-CAM, resnet50, batch 1"),
    ("8 methods × 5 classes, in passes", "benchmarks.md", "8 methods × 5 classes, resnet50"),
    (
        "Ablation-CAM of ResNet-18, in passes",
        "benchmarks-perturbation.md",
        "Ablation-CAM, resnet18, in passes of one image",
    ),
)
"""The rows of the pages of costs: the row's name, the page, and the page's name of the row."""


def comparison() -> str:
    """Return the table that compares the packages; every number is one of a page."""
    rows = [*WRITTEN[:2]]
    for name, page, what in MEASURED:
        text = (DOCS / page).read_text(encoding="utf-8")
        found = dict(re.findall(rf"^\| {re.escape(what)} \| ([\w-]+) \| ([\d.]+)", text, flags=re.MULTILINE))
        rows.append((f"[{name}](docs/{page})", *(found.get(package, "–") for package in PACKAGES)))
    ledger = (DOCS / "parity.md").read_text(encoding="utf-8")
    for method, title in (("gradcam++", "Grad-CAM++"), ("eigencam", "Eigen-CAM")):
        (line,) = re.findall(rf"^\| `{re.escape(method)}` \| [^|]+, \d+ \| (.+) \|$", ledger, flags=re.MULTILINE)[:1]
        ours = re.split(r"(?<!\\)\|", line)[1:]
        rows.append((f"[{title}, off its equation by](docs/parity.md)", *(cell.strip() or "–" for cell in ours)))
    rows += WRITTEN[2:]
    head = ("", *PACKAGES)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows))


def with_comparison(text: str) -> str:
    """Return the README with the table of the measured pages."""
    table = f"<!-- measured -->\n{comparison()}\n<!-- /measured -->"
    return re.sub(r"<!-- measured -->.*<!-- /measured -->", lambda _: table, text, flags=re.DOTALL)


if __name__ == "__main__":
    with atomic_write(README) as temporary:
        text = README.read_text(encoding="utf-8")
        temporary.write_text(with_comparison(with_tables(text)), encoding="utf-8")
