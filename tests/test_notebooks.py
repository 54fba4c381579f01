"""The notebooks run from the first cell to the last, and are stored without outputs."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def named(path: Path) -> str:
    return path.stem


@pytest.mark.parametrize("path", NOTEBOOKS, ids=named)
def test_notebook_is_stored_without_outputs_and_installs_first(path):
    cells = [cell for cell in read(path).cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)
    assert cells[0].source.startswith("%pip install")
    assert cells[0].metadata.tags == ["skip-execution"]


LONGEST = ("train-with-explanations",)


@pytest.mark.slow
@pytest.mark.parametrize(
    "path",
    [pytest.param(one, marks=pytest.mark.nightly) if one.stem in LONGEST else one for one in NOTEBOOKS],
    ids=named,
)
def test_notebook_runs(path, tmp_path):
    client = NotebookClient(
        read(path), timeout=600, skip_cells_with_tag="skip-execution", resources={"metadata": {"path": tmp_path}}
    )
    client.execute()
