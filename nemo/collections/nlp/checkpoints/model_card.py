"""The README.md of an exported model: what it was made from, how, and how good it is."""

from collections.abc import Iterator, Mapping
from typing import Any

TAG = "\n- nemo-bert\n"
"""By which a card of ours is told from others."""
_CARD = """\
---
library_name: transformers
pipeline_tag: fill-mask
tags:
- bert
- nemo-bert
---

# A BERT pretrained with nemo-bert

{facts}
## Use

```python
from transformers import pipeline

fill_mask = pipeline("fill-mask", model="path/to/this/folder")
```

## Limits and licence

The model repeats what the text it learned from says, right or wrong. What may be done with it depends on the
rights in that text. No licence is granted here: whoever publishes the model has to state one.
"""


def model_card(facts: Mapping[str, Any]) -> str:
    """A Markdown page with a table of `facts`.

    Args:
        facts: name -> value, in the order of the table; a mapping stands for several rows. The value of
            "command" is shown as a block of code.
    """
    rows = "".join(f"| {name} | {value} |\n" for name, value in _rows(facts))
    table = f"| | |\n|---|---|\n{rows}\n" if rows else ""
    command = facts.get("command")
    block = f"## How it was made\n\n```\n{command}\n```\n\n" if command else ""
    return _CARD.format(facts=table + block)


def _rows(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _rows(value)
        elif name != "command" and value is not None:
            yield _cell(name.replace("_", " ")), _cell(_readable(value))


def _readable(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    # Digits of large numbers are counted in threes; a year or a size reads better without.
    return f"{value:,}" if isinstance(value, int) and abs(value) >= 10_000 else str(value)


def _cell(text: str) -> str:
    """Text that cannot break out of its cell."""
    return " ".join(text.split()).replace("|", "\\|")
