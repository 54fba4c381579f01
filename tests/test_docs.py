"""The documentation says what the code does."""

import pkgutil
import re
import subprocess
import tomllib
import warnings
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import saywhy
from docs.readme import with_comparison
from saywhy.cli import app
from saywhy.cli.pages import methods_page, metrics_page, with_tables
from saywhy.metrics import METRICS, all_dataset_metrics
from saywhy.tasks.registry import import_metrics

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_methods_page_equals_the_registry() -> None:
    assert (ROOT / "docs" / "methods.md").read_text(encoding="utf-8").strip() == methods_page().strip()


def test_metrics_page_equals_the_registry() -> None:
    assert (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8").strip() == metrics_page().strip()


def test_the_page_of_metrics_has_the_dataset_level_metrics() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    shown = CliRunner().invoke(app, ["metrics"], env={"COLUMNS": "400", "TERM": "dumb"}).output
    import_metrics()
    for one in all_dataset_metrics():
        assert f"| `{one.name}` | {one.value} | {one.better} | {one.range} | {one.paper} |" in page
        assert one.name in shown
    for metric in METRICS.values():
        assert f"| {metric.better} | {metric.range} |" in page
        assert metric.name in shown
    assert "human attention" in page  # as a dataset-level metric, and as no input of a metric
    assert "| human attention |" not in page


def test_package_description_is_the_tagline_of_the_readme() -> None:
    described = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["description"]
    assert f"\n*{described}*\n" in README


def test_readme_tables_equal_the_registries() -> None:
    """`python -m docs.readme` writes them."""
    assert with_comparison(with_tables(README)) == README
    for name in ("methods", "metrics", "measured"):
        assert README.count(f"<!-- {name} -->") == README.count(f"<!-- /{name} -->") == 1


def test_with_tables_restores_an_outdated_readme() -> None:
    assert with_tables(README.replace("`gradcam`, `cam`", "`cam`")) == README


def test_the_readme_names_every_method() -> None:
    for name in saywhy.methods.METHODS:
        assert f"`{name}`" in README
    for name in METRICS:
        assert f"`{name}`" in README


def test_readme_is_short() -> None:
    assert len(README.splitlines()) < 120


def test_readme_begins_with_one_image_then_make_demo_and_make_test() -> None:
    image, demo, test = (README.index(words) for words in ("![", "make demo", "make test"))
    assert image < demo < test < README.index("## ")
    assert README.count("![") == 1


def test_relative_links_of_pages_exist() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
    for page in pages:
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            if not link.startswith("http"):
                assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_every_command_and_option_that_the_readme_uses_exists() -> None:
    for line in re.findall(r"^saywhy (.+?)(?:\s+#.*)?$", README, flags=re.MULTILINE):
        command, options = line.split()[0], re.findall(r"\s(--?[a-z-]+)", line)
        shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200", "TERM": "dumb"}).output
        assert "Usage" in shown
        for option in options:
            assert option in shown, f"saywhy {command} has no {option}"


def test_every_make_target_that_is_named_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for text in (README, (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")):
        for target in re.findall(r"(?:^|`)make ([a-z]+)", text, flags=re.MULTILINE):
            assert f"\n{target}:" in makefile


def test_tracked_files_contain_no_absolute_paths() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in filter(None, listed.stdout.decode().split("\0")):
        path = ROOT / name
        if path.suffix in (".py", ".md", ".toml", ".js", ".css", ".j2") and path.exists():
            text = path.read_text(encoding="utf-8")
            assert str(ROOT.parent) + "/" not in text, name


@pytest.mark.slow
@pytest.mark.parametrize(("page", "block"), [("uncertainty", 0), ("decoding", 0), ("decoding", 1), ("decoding", 3)])
def test_examples_of_pages_run(page: str, block: int) -> None:
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", saywhy.errors.SaywhyWarning)  # some maps are zero everywhere
        exec(re.findall(r"```python\n(.*?)```", text, re.DOTALL)[block], names)
    if (page, block) == ("decoding", 1):
        assert names["result"].groups.tolist() == [[1, 0]]
    if (page, block) == ("decoding", 3):
        assert len(names["texts"]) == 6


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.stem)
def test_package_names_in_pages_resolve(page: Path) -> None:
    """Every ``saywhy.….name`` of a page, and every name that an example imports."""
    text = page.read_text(encoding="utf-8")
    for name in set(re.findall(r"(?<![\w/.:-])saywhy(?:\.[A-Za-z_]\w*)+", text)):
        pkgutil.resolve_name(name)
    for module, names in re.findall(r"^from (saywhy[\w.]*) import ([\w, ]+)$", text, re.MULTILINE):
        for one in names.split(", "):
            pkgutil.resolve_name(f"{module}:{one}")
