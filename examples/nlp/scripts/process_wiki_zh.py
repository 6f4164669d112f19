"""The tutorial's second path to `examples/nlp/language_modeling/process_wiki_zh.py`."""

import runpy
from pathlib import Path

if __name__ == "__main__":
    runpy.run_path(
        str(Path(__file__).parents[1] / "language_modeling" / "process_wiki_zh.py"), run_name="__main__"
    )
