"""Pages, help and messages use the field's standard terms; home-made words that were replaced do not come back."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

REPLACED = (
    r"pictures?",  # image; it stays in the tagline
    r"rivals?",  # baselines, runner-up class
    r"hill in the middle",  # centre prior
    r"know(?:s|ing)? nothing",  # class-agnostic baselines
    r"maps? of chance",  # null distribution
    r"guesses|thinned",  # Monte Carlo samples
    r"views of an? image",  # test-time augmentation
    r"shuffled weights|forgotten",  # parameter randomization
    r"next best answer",  # runner-up class
    r"completeness gap",  # completeness error
    r"told apart|steady",  # named after the experiment
)
WORDS = re.compile(rf"\b(?:{'|'.join(REPLACED)})\b", re.IGNORECASE)
TAGLINE = "See the answer on the picture."

PAGES = sorted(
    [
        ROOT / "README.md",
        *(page for page in (ROOT / "docs").rglob("*.md") if not page.name.startswith(("claims", "benchmarks"))),
        *(ROOT / "src" / "saywhy" / "view").glob("*.j2"),
        *(ROOT / "src" / "saywhy" / "view").glob("*.js"),
        *(ROOT / "skills").rglob("*.md"),
        *(ROOT / "notebooks").glob("*.ipynb"),
    ]
)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_pages_use_the_standard_terms(page: Path) -> None:
    text = page.read_text(encoding="utf-8").replace(TAGLINE, "")
    assert [text[max(0, m.start() - 30) : m.end() + 30] for m in WORDS.finditer(text)] == []


@pytest.mark.parametrize("file", sorted((ROOT / "src" / "saywhy" / "cli").glob("*.py")), ids=name_of)
def test_help_and_messages_use_the_standard_terms(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    texts = [one.value for one in ast.walk(tree) if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    found = [m.group() for text in texts for m in WORDS.finditer(text.replace(TAGLINE, ""))]
    assert found == []
