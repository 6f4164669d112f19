"""The notebooks of docs/tutorials, run as somebody would who has opened them there."""

from pathlib import Path

import nbclient
import nbformat
import pytest

from tests.conftest import PATIENCE
from tests.documents import ROOT


def run_notebook(
    name: str, root: Path, settings: str, change: str, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """Run a notebook in a folder that stands for the root of the checkout; returns what each cell printed.

    Args:
        settings: what stands in the cell of the settings.
        change: code to run after that cell.
    """
    for variable in ("JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(variable, str(root.parent / variable))
    notebook = nbformat.read(ROOT / "docs" / "tutorials" / name, as_version=4)
    (at,) = [i for i, cell in enumerate(notebook.cells) if settings in cell.source]
    notebook.cells.insert(at + 1, nbformat.v4.new_code_cell(change))
    folder = root / "docs" / "tutorials"
    folder.mkdir(parents=True)
    resources = {"metadata": {"path": str(folder)}}
    nbclient.NotebookClient(notebook, timeout=PATIENCE, kernel_name="python3", resources=resources).execute()
    return ["".join(o.get("text", "") for o in cell.get("outputs", ())) for cell in notebook.cells]
