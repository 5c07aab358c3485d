"""The notebooks: kept without outputs, and run as they stand."""

import ast
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


def read(path: Path):
    return nbformat.read(path, as_version=4)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs(path: Path) -> None:
    notebook = read(path)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert cells
    assert not any(cell.outputs or cell.execution_count for cell in cells)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_its_first_cell_to_its_last(path: Path, tmp_path: Path) -> None:
    nbclient = pytest.importorskip("nbclient")
    notebook = read(path)
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": tmp_path}}).execute()
    if path.stem == "2_train_on_a_folder":
        measured = shown_by(notebook, 'result.metrics["test"]')
        assert measured["balanced_accuracy"] > 0.7, measured


def shown_by(notebook, code: str):
    """What the cell with this code shows last."""
    cell = next(cell for cell in notebook.cells if cell.cell_type == "code" and code in cell.source)
    return ast.literal_eval(cell.outputs[-1].data["text/plain"])
