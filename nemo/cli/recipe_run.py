"""Training by a recipe, whose choices are shown first."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from nemo.cli.terminal import FAINT, LABEL_WIDTH, STRONG, make_console, print_labeled, safe
from nemo.collections.nlp.options.recipe_options import RecipeOptions
from nemo.collections.nlp.pretraining import PretrainingResult
from nemo.collections.nlp.pretraining.run import pretrain_together, processes_of
from nemo.collections.nlp.pretraining.run_files_writer import RecipeNotes
from nemo.collections.nlp.recipe.from_text import Recipe, choose_recipe, prepare_text, settle
from nemo.collections.nlp.recipe.rehearsal import open_all
from nemo.utils.progress import working

VALUE_WIDTH = 40
LEAST_REASON_WIDTH = 24
"""Columns; in narrower terminals, reasons are printed below the values."""


def run_recipe(options: RecipeOptions, began: float) -> PretrainingResult | None:
    """Choose, print the choices, prepare and train; return None after a dry run, which does not train.

    Args:
        began: start of the command, by `time.monotonic()`.

    Raises:
        UsageError, DataError, CheckpointError: an option, a text or a checkpoint cannot be used.
    """
    with processes_of(options) as world:
        with working("examining the text"):
            recipe = choose_recipe(options, world)
        settled = settle(options, recipe)
        if world.rank == 0:
            print_table(recipe.table(options.typed))
        if options.dry_run:
            with working("opening what the run would open"):
                open_all(options, settled, recipe)
            return None
        world.in_turn(lambda: prepare_text(options, recipe))
        return pretrain_together(
            settled, world, began, RecipeNotes(remarks(recipe, options.typed), recipe.languages)
        )


def print_table(rows: Sequence[tuple[str, str, str]]) -> None:
    """Print the choices and their reasons, one per row."""
    from rich.table import Table
    from rich.text import Text

    console = make_console()
    if console.width < LABEL_WIDTH + VALUE_WIDTH + 2 + LEAST_REASON_WIDTH:
        for about, value, reason in rows:
            both = Text.assemble((safe(value), STRONG), "\n", (safe(reason), FAINT))
            print_labeled(console, about, both)
        sys.stdout.flush()
        return
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="cyan", width=LABEL_WIDTH - 2)
    table.add_column(style=STRONG, width=VALUE_WIDTH)
    table.add_column(style=FAINT)
    for row in rows:
        table.add_row(*(Text(safe(cell)) for cell in row))
    console.print(table)
    sys.stdout.flush()


def remarks(recipe: Recipe, typed: Mapping[str, Any]) -> str:
    """The choices and their reasons, as comments for a configuration file."""
    rows = [f"  {about}: {value} ({reason})" for about, value, reason in recipe.table(typed)]
    return "\n".join(
        ["Choices of nemo-bert pretrain, with the reasons; options that you gave are marked.", *rows]
    )
