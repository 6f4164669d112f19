"""Figures of any BERT on a text, comparable between vocabularies."""

from dataclasses import dataclass
from pathlib import Path

from nemo.collections.nlp.checkpoints.initial_checkpoint import (
    find_initial_checkpoint,
    take_weights,
    with_sizes,
)
from nemo.collections.nlp.checkpoints.loading import Pretrained
from nemo.collections.nlp.data.inputs import TextOptions
from nemo.collections.nlp.data.samples.sampling import Sampling
from nemo.collections.nlp.data.tokenizers.choice import TokenizerRequest, find_tokenizer
from nemo.collections.nlp.evaluation import evaluate
from nemo.collections.nlp.extension.figures import cut_of
from nemo.collections.nlp.extension.vocabulary import count_words
from nemo.collections.nlp.nm.pretraining_model import build_model
from nemo.collections.nlp.options import PretrainingOptions
from nemo.utils.errors import UsageError

SEQ_LENGTH = 128
MOST_LINES = 5000


@dataclass(frozen=True)
class ModelFigures:
    """Figures of a model on a held-out text.

    Attributes:
        mlm_loss: nats per masked token, 15% of whole words masked; None without a head for it.
        pieces_per_word: mean over the words of the text.
        unknown_share: of these words, those with an unknown piece.
    """

    mlm_loss: float | None
    pieces_per_word: float
    unknown_share: float

    @property
    def unknown_percent(self) -> float:
        """The share of unknown words, in percent."""
        return 100 * self.unknown_share

    @property
    def loss_per_word(self) -> float | None:
        """Nats per token times tokens per word, the most comparable figure between vocabularies."""
        return None if self.mlm_loss is None else self.mlm_loss * self.pieces_per_word


def figures_on(model: str, text: Path) -> ModelFigures:
    """Evaluate a nemo-bert run or a Hugging Face model on plain text.

    Raises:
        UsageError: the model has no tokenizer.
        MissingFileError, CheckpointError: the model cannot be read.
        DataError: the text cannot be read.
    """
    options = PretrainingOptions(
        mode="data_text",
        train_data=str(text),
        bert_checkpoint=model,
        only_mlm_loss=True,
        max_seq_length=SEQ_LENGTH,
    )
    initial = find_initial_checkpoint(options)
    tokenizer = find_tokenizer(TokenizerRequest(initial=initial))
    if initial is None or tokenizer is None:
        raise UsageError("the model has no tokenizer", where=model)
    options, config = with_sizes(options, initial)
    built = build_model(options, tokenizer, config)
    has_head = str(built.mlm) in take_weights(built, initial)
    for module in built.neural_modules:
        module.eval()
    loss = None
    if has_head:
        sampling = Sampling(max_seq_length=options.max_seq_length)
        loss = evaluate(
            Pretrained(built, tokenizer, {}, Path(model)), text, sampling, text=TextOptions(layout="blank")
        )["mlm_loss"]
    with text.open(encoding="utf-8") as file:
        words = count_words(tokenizer, (line for line, _ in zip(file, range(MOST_LINES), strict=False)))
    cut = cut_of(words, tokenizer)
    return ModelFigures(loss, cut.pieces_per_word, cut.unknown_share)
