"""CONTRIBUTING.md is a recipe that is followed here, word for word, in a copy of the repository."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import saywhy

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
NAME = "attention-transfer"

KEPT = (
    "conftest.py",
    "pyproject.toml",
    "README.md",
    "docs",
    "tests/oracles",
    "tests/kinds.py",
    "tests/methods/test_registry.py",
    "tests/methods/test_contract.py",
    "tests/methods/test_equations.py",
)
"""What the contract of methods needs beside the package."""


def section(title: str) -> str:
    """A section of the page."""
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def blocks(title: str) -> list[str]:
    """The Python of a section."""
    return re.findall(r"```python\n(.*?)```", section(title), flags=re.DOTALL)


def files(title: str) -> dict[str, str]:
    """The files that a section says to write, by their paths in its first lines."""
    return dict(re.fullmatch(r"# (\S+)\n(.*)", block, flags=re.DOTALL).groups() for block in blocks(title))  # type: ignore[union-attr]


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Python in a process of its own, which sees the copy."""
    env = {**os.environ, "PYTHONPATH": str(folder / "src")}
    return subprocess.run([sys.executable, *words], cwd=folder, env=env, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy with the new method and its oracle, and the pages made anew."""
    folder = tmp_path_factory.mktemp("copy")
    left_out = shutil.ignore_patterns("__pycache__", "weights", "images")
    shutil.copytree(Path(saywhy.__file__).parent, folder / "src" / "saywhy", ignore=left_out)
    for name in KEPT:
        source, place = ROOT / name, folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, place, ignore=left_out)
        else:
            shutil.copy(source, place)
    written = files("Add a method")
    assert [Path(name).parts[-2] for name in written] == ["methods", "oracles"]
    for name, text in written.items():
        assert not (folder / name).exists()
        (folder / name).write_text(text, encoding="utf-8")
    page = run(folder, "-m", "saywhy", "methods", "--markdown")
    (folder / "docs" / "methods.md").write_text(page.stdout, encoding="utf-8")
    return folder


@pytest.mark.slow
def test_a_method_that_is_added_as_written_passes_the_contract(copy: Path) -> None:
    tests = [name for name in KEPT if name.startswith("tests/methods")]
    # The ledger of parity is made by `make docs`, which asks other packages and takes minutes.
    chosen = f"{NAME} and not parity_ledger"
    ran = run(copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests, "src/saywhy/methods", "-k", chosen)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    count = int(re.search(r"(\d+) passed", ran.stdout)[1])  # type: ignore[index]
    assert count > 30, ran.stdout
    assert "failed" not in ran.stdout


@pytest.mark.slow
def test_method_without_oracle_fails_the_registry_test(copy: Path, tmp_path: Path) -> None:
    (oracle,) = (name for name in files("Add a method") if "oracles" in name)
    kept = (copy / oracle).read_text(encoding="utf-8")
    (copy / oracle).unlink()
    try:
        test = f"tests/methods/test_registry.py::TestEveryEntry::test_has_paper_equation_doctest_and_oracle[{NAME}]"
        ran = run(copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", test)
    finally:
        (copy / oracle).write_text(kept, encoding="utf-8")
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert f"'{NAME}' has no oracle" in ran.stdout


@pytest.mark.slow
def test_added_method_is_in_methods_page_and_readme(copy: Path) -> None:
    assert f"| `{NAME}` |" in (copy / "docs" / "methods.md").read_text(encoding="utf-8")
    ran = run(copy, "-m", "docs.readme")
    assert ran.returncode == 0, ran.stderr
    assert f"`{NAME}`" in (copy / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize(
    "title", ["Add a metric", "Add a target", "Add a model source", "Add a data set", "Add a task"]
)
def test_contributing_recipes_run(title: str, tmp_path: Path) -> None:
    (code,) = blocks(title)
    (tmp_path / "recipe.py").write_text(code, encoding="utf-8")
    path = os.pathsep.join(filter(None, (str(Path(saywhy.__file__).parents[1]), os.environ.get("PYTHONPATH"))))
    ran = subprocess.run(
        [sys.executable, "recipe.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip()


def test_every_file_and_folder_that_the_page_names_exists() -> None:
    for name in re.findall(r"`((?:src/saywhy|tests|research|docs)/[\w/.]*)`", PAGE):
        if "NAME" not in name and name not in files("Add a method"):
            assert (ROOT / name).exists(), name
    house = section("The house").split("### ")[0]
    for line in re.findall(r"^\| (`[^|]+`) \|", house, flags=re.MULTILINE):
        for name in re.findall(r"`([^`]+)`", line):
            place = ROOT / "src" / "saywhy" / name
            assert place.exists() or place.with_suffix(".py").exists(), name


def test_every_module_of_the_package_has_a_row() -> None:
    rows = re.findall(r"^\| (`[^|]+`) \|", section("The house").split("### ")[0], flags=re.MULTILINE)
    named = {name.strip("/").removesuffix(".py") for line in rows for name in re.findall(r"`([^`]+)`", line)}
    found = {place.name for place in (ROOT / "src" / "saywhy").iterdir() if (place / "__init__.py").is_file()}
    found |= {place.stem for place in (ROOT / "src" / "saywhy").glob("[!_]*.py")}
    assert found == named


def test_files_of_the_table_of_changes_exist() -> None:
    table = section("The house").split("### Where to make a change")[1]
    for row in re.findall(r"^\| [^|]+ \| (.*) \|$", table, flags=re.MULTILINE):
        folder = ROOT
        for name in re.findall(r"`([\w./]+\.(?:py|js))`", row):
            places = [ROOT / name, ROOT / "src" / "saywhy" / name, folder / name]
            assert "NAME" in name or any(place.is_file() for place in places), name
            folder = (ROOT / name).parent


def test_entry_point_groups_are_named_in_contributing() -> None:
    from saywhy.datasets.registry import READERS
    from saywhy.methods import METHODS
    from saywhy.metrics import DATASET_METRICS, METRICS
    from saywhy.models import SOURCES
    from saywhy.targets import TARGETS
    from saywhy.tasks.registry import TASKS

    for registry in (METHODS, METRICS, DATASET_METRICS, TARGETS, SOURCES, READERS, TASKS):
        assert f"`{registry.group}`" in section("In a package of your own")
