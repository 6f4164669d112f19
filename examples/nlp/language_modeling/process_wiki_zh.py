"""Prepare wiki2019zh for a Chinese BERT: `python process_wiki_zh.py --data_dir=wiki_zh --output_dir=wiki_zh`.

Writes train.txt and valid.txt (a sentence per line, a blank line between documents), and vocab.txt, a
vocabulary of characters for `NemoBertTokenizer(vocab_file=...)`. `nemo-bert pretrain --data_dir=wiki_zh
data_text` finds all three. The work is done in `nemo/collections/nlp/preparation/wiki_zh.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nemo.cli.main import program
from nemo.utils.arguments import CommandLine, check, option
from nemo.utils.errors import UsageError


@dataclass(frozen=True)
class WikiZhOptions:
    """The corpus and the output folder."""

    data_dir: str = option(
        "", "folder with the corpus, a JSON object per line: */wiki*, wiki*, *.json or *.jsonl", is_path=True
    )
    output_dir: str = option(
        "./",
        "output folder for train.txt, valid.txt, vocab.txt and bert/vocab.txt, where a run finds them",
        is_path=True,
    )
    min_frequency: int = option(
        0, "characters that occur less often in train.txt become [UNK]; 0: none", at_least=0
    )
    max_files: int = option(-1, "number of files to read, in order of their names; -1: all", at_least=-1)
    text_field: str = option("text", "key of the text; news2016zh and webtext2019zh have content")
    max_bad_records: int = option(0, "maximum number of malformed lines to skip", at_least=0)

    def __post_init__(self) -> None:
        check(self)
        if not self.data_dir:
            raise UsageError("no corpus", expected="--data_dir FOLDER")
        if self.max_files == 0:
            raise UsageError(
                "out of range", where="--max_files", found=0, expected="1 or more, or -1 for all"
            )


COMMAND_LINE = CommandLine(WikiZhOptions, "process_wiki_zh.py", "JSON lines -> text and vocabulary.")


def run(argv: Sequence[str]) -> None:
    """Process the corpus, and report what was written."""
    options = COMMAND_LINE.parse(argv)
    from nemo.collections.nlp.preparation.wiki_zh import process_wiki_zh, report

    output_dir = Path(options.output_dir)
    counts = process_wiki_zh(
        Path(options.data_dir),
        output_dir,
        options.min_frequency,
        options.max_files,
        options.text_field,
        options.max_bad_records,
    )
    report(counts, output_dir)


if __name__ == "__main__":
    program(command=run)
