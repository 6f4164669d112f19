"""Files of a small task for the generator of command lines, in the forms that are read."""

import json
from pathlib import Path
from typing import Any

LABELED = (
    *("tags.txt", "more-tags.txt", "tags.pubtator", "tags.jsonl"),
    *("texts.csv", "texts.tsv", "texts.jsonl", "field.txt"),
)


def write_labeled() -> None:
    """A task in each of its forms: which words are cats, and whether a text has one."""
    sentences = [f"the {who} sees {n} dogs".split() for n in range(60) for who in ("cat", "owl")]
    tags = [["B-Cat" if word == "cat" else "O" for word in words] for words in sentences]
    for name, part in (("tags.txt", slice(40)), ("more-tags.txt", slice(40, None))):
        pairs = (zip(*both, strict=True) for both in zip(sentences[part], tags[part], strict=True))
        Path(name).write_text("\n".join("".join(f"{word} {tag}\n" for word, tag in both) for both in pairs))
    records: list[dict[str, Any]] = []
    documents = []
    for n, words in enumerate(sentences):
        text, is_cat = " ".join(words), words[1] == "cat"
        records.append({"text": text, "label": "cat" if is_cat else "none"})
        documents.append(f"{n}|t|{text}\n" + f"{n}\t4\t7\tcat\tCat\tC1\n" * is_cat)
    Path("field.txt").write_text("\n\n".join(" ".join(words) for words in sentences))
    Path("tags.pubtator").write_text("\n".join(documents))
    for name, separator in (("texts.csv", ","), ("texts.tsv", "\t")):
        rows = [separator.join(record.values()) for record in records]
        Path(name).write_text("\n".join([separator.join(records[0]), *rows]) + "\n")
    spans = [[{"start": 4, "end": 7, "label": "Cat"}] if tag[1] != "O" else [] for tag in tags]
    for name, more, values in (("tags.jsonl", "entities", spans), ("texts.jsonl", "more", ["a cat"] * 120)):
        lines = (json.dumps({**record, more: value}) for record, value in zip(records, values, strict=True))
        Path(name).write_text("\n".join(lines) + "\n")
