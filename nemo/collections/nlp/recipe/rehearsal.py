"""Opens everything that a run would open, so that a dry run fails where the run would; writes nothing."""

import dataclasses
import tempfile
from pathlib import Path

from nemo.collections.nlp.checkpoints.initial_checkpoint import (
    InitialCheckpoint,
    find_initial_checkpoint,
    take_weights,
    with_sizes,
)
from nemo.collections.nlp.data.inputs import TextOptions, sections_of, sources_of
from nemo.collections.nlp.data.inspection.text import count
from nemo.collections.nlp.data.samples.batching import check_tokens_per_batch
from nemo.collections.nlp.data.tokenizers import TokenizerSpec
from nemo.collections.nlp.data.tokenizers.choice import TokenizerRequest, find_tokenizer
from nemo.collections.nlp.nm.pretraining_model import build_model
from nemo.collections.nlp.options import PretrainingOptions
from nemo.collections.nlp.options.recipe_options import RecipeOptions
from nemo.collections.nlp.pretraining.setup import refuse_if_over
from nemo.collections.nlp.pretraining.shards import open_shards
from nemo.collections.nlp.pretraining.text_data import open_data
from nemo.collections.nlp.recipe.from_text import DATA, HELD_OUT, Recipe
from nemo.utils.errors import DataError


def open_all(options: RecipeOptions, settled: PretrainingOptions, recipe: Recipe) -> None:
    """Open the held-out text, the tokenizer and the weights to start from.

    Args:
        settled: the options of the run.

    Raises:
        UsageError, DataError, CheckpointError: as the run would.
    """
    initial = find_initial_checkpoint(settled)
    sized, config = with_sizes(settled, initial)
    if sized.mode == "data_text":  # shards have their own length
        check_tokens_per_batch(sized.tokens_per_batch, sized.max_seq_length)
    tokenizer = _open_data(options, sized, recipe, initial)
    if initial is not None:
        take_weights(build_model(sized, tokenizer, config), initial)
        if sized.steps is not None:
            refuse_if_over(sized, initial.step, sized.steps)


def _open_data(
    options: RecipeOptions, settled: PretrainingOptions, recipe: Recipe, initial: InitialCheckpoint | None
) -> TokenizerSpec | None:
    """The tokenizer; None if one will be trained, or if shards come without theirs."""
    if DATA not in recipe.preparations:
        if settled.mode == "data_preprocessed":
            return open_shards(settled, initial).tokenizer
        with tempfile.TemporaryDirectory() as folder:
            return open_data(settled, Path(folder), initial).tokenizer
    if HELD_OUT in recipe.preparations:
        _read_held_out(options, recipe)
    preparation = recipe.preparations[DATA]
    request = TokenizerRequest(named=preparation["tokenizer"], train_in=Path(settled.work_dir))
    return find_tokenizer(request, preparation["do_lower_case"])


def _read_held_out(options: RecipeOptions, recipe: Recipe) -> None:
    preparation = recipe.preparations[HELD_OUT]
    text = dataclasses.replace(
        TextOptions.of(options), format=preparation["text_format"], layout=preparation["text_layout"]
    )
    if not count(sections_of(sources_of(preparation["inputs"], text, held_out=True)), text).documents:
        raise DataError("no text to evaluate on", where=", ".join(preparation["inputs"]), found="no document")
