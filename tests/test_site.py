"""The site: its examples run, troubleshooting quotes real errors, and nothing is loaded from elsewhere."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def _strings_of_the_code() -> str:
    """All code, with adjacent string literals joined."""
    text = "\n".join(file.read_text(encoding="utf-8") for file in sorted((ROOT / "src" / "saywhy").rglob("*.py")))
    return re.sub(r'"\s*\n\s*f?"', "", text)


def _headings() -> list[str]:
    text = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    return re.findall(r"^## (.+)$", text, flags=re.MULTILINE)


LOADED = re.compile(
    r"""<(?:script|img|iframe)[^>]+src=["']?(https?:[^"'> ]+)|<link[^>]+stylesheet[^>]+href=["']?(https?:[^"'> ]+)"""
)
"""Scripts, images, frames and style sheets of other sites."""

CODE = _strings_of_the_code()


@pytest.mark.parametrize("heading", _headings())
def test_troubleshooting_quotes_an_error_of_the_code(heading):
    assert heading in CODE


def test_every_page_is_in_the_navigation():
    named = set(re.findall(r"[\w./-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]))
    pages = {file.relative_to(DOCS).as_posix() for file in DOCS.rglob("*.md")}
    assert pages == named


@pytest.mark.nightly  # two minutes
def test_site_is_built_with_its_examples_and_loads_nothing_from_elsewhere(tmp_path):
    """The build is strict: a page whose example fails, or a dead link, ends it."""
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    pages = {page.relative_to(tmp_path).as_posix(): page.read_text("utf-8") for page in tmp_path.rglob("*.html")}
    assert len(pages) > 40
    assert {name: found for name, page in pages.items() if (found := LOADED.findall(page))} == {}
    assert "saywhy.explain" in (tmp_path / "llms-full.txt").read_text(encoding="utf-8")
    policies = re.sub("<[^>]+>", "", pages["how-to/policies.html"])
    assert re.search(r"turns to the green goal in (9\d|100)% of 500 new games", policies)
    assert "data:image/webp;base64" in pages["get-started.html"]
