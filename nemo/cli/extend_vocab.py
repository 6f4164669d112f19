"""`nemo-bert extend-vocab MODEL TEXT...`: add the words of a field to a BERT's vocabulary."""

import sys
from collections.abc import Sequence

from nemo.collections.nlp.options.extension import ExtensionOptions
from nemo.utils.arguments import CommandLine
from nemo.utils.progress import working

COMMAND_LINE = CommandLine(
    ExtensionOptions,
    "nemo-bert extend-vocab",
    "Add the WordPieces that save the most tokens of a text to a BERT's vocabulary, and write the model as "
    "a Hugging Face folder.",
    positional=("model", "text"),
    examples="nemo-bert extend-vocab my_bert papers/ --out my_bert_of_papers",
)


def run(argv: Sequence[str]) -> None:
    """Extend the vocabulary, and print the effect."""
    options = COMMAND_LINE.parse(argv)
    with working("extending the vocabulary"):
        from nemo.collections.nlp.extension.report import summary
        from nemo.collections.nlp.extension.run import extend_vocabulary

        text = summary(extend_vocabulary(options))
    sys.stdout.write(text + "\n")
