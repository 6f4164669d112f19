"""Make the notebooks in docs/tutorials from the Markdown pages beside them: `python docs/make_notebook.py`.

Python blocks become code cells, and so does the first command, which fetches the corpus; the rest stays text.
"""

import json
import re
from pathlib import Path
from typing import Any

TUTORIALS = Path(__file__).parent / "tutorials"
PAGES = [TUTORIALS / "bert_pretraining.md", TUTORIALS / "your_field.md"]
TO_THE_ROOT = 'import os\n\nos.chdir("../..")  # all paths are relative to the root of the checkout\n'


def notebook_of(page: str) -> dict[str, Any]:
    """A notebook of format 4.5, without outputs."""
    cells = [_cell("code", TO_THE_ROOT)]
    text = ""
    fetched = False
    for part in re.split(r"^(```\w+\n.*?^```\n)", page, flags=re.DOTALL | re.MULTILINE):
        language, _, code = part.removesuffix("```\n").partition("\n")
        is_fetching = language == "```bash" and not fetched
        if language == "```python" or is_fetching:
            cells += [_cell("markdown", text), _cell("code", f"%%bash\n{code}" if is_fetching else code)]
            text, fetched = "", fetched or is_fetching
        else:
            text += part
    cells.append(_cell("markdown", text))
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def _cell(kind: str, source: str) -> dict[str, Any]:
    cell: dict[str, Any] = {"cell_type": kind, "metadata": {}, "source": source.strip("\n")}
    return cell | ({"execution_count": None, "outputs": []} if kind == "code" else {})


def text_of(notebook: dict[str, Any]) -> str:
    """As it stands in the file."""
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for page in PAGES:
        notebook = notebook_of(page.read_text(encoding="utf-8"))
        page.with_suffix(".ipynb").write_text(text_of(notebook), encoding="utf-8")
