"""`nemo-bert pretrain [options] data_text [options]`, or `data_preprocessed`, which is the default."""

from collections.abc import Sequence

from nemo.collections.nlp.options import MODES, PretrainingOptions
from nemo.utils.arguments import parse


def parse_options(argv: Sequence[str]) -> PretrainingOptions:
    """Options may stand before or after the kind of data, which may be spelled `--data_text` too."""
    words = [word.removeprefix("--") if word.removeprefix("--") in MODES else word for word in argv]
    return parse(
        PretrainingOptions,
        "nemo-bert pretrain",
        "Train a BERT on text (data_text) or on prepared shards. "
        "A rerun of the same command goes on where the last one stopped.",
        words,
        positional=("mode",),
    )


def run(argv: Sequence[str]) -> None:
    """Train; a summary is the last thing printed."""
    options = parse_options(argv)
    from nemo.collections.nlp.pretraining import pretrain

    pretrain(options)
