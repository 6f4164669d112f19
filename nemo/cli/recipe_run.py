"""Train on a text by the recipe, and show what it chose before."""

import sys
from collections.abc import Sequence

from nemo.cli.terminal import FAINT, LABEL_WIDTH, STRONG, make_console, safe
from nemo.collections.nlp.options.recipe_options import RecipeOptions
from nemo.collections.nlp.pretraining import PretrainingResult
from nemo.collections.nlp.pretraining.run import pretrain_together, processes_of
from nemo.collections.nlp.recipe.from_text import Recipe, choose, prepare_text, settle
from nemo.utils.progress import working

VALUE_WIDTH = 40


def run_recipe(options: RecipeOptions, began: float) -> PretrainingResult | None:
    """Decide, show it, prepare and train; None where a dry run stops before.

    Args:
        began: when the command did, of `time.monotonic()`.

    Raises:
        UsageError, DataError, CheckpointError: something that cannot be used, with the fix.
    """
    with processes_of(options) as world:
        with working("looking at the text"):
            recipe = choose(options, world)
        settled = settle(options, recipe)
        if world.rank == 0:
            print_table(recipe.table())
        if options.dry_run:
            return None
        world.in_turn(lambda: prepare_text(options, recipe))
        return pretrain_together(settled, world, began, remarks(recipe))


def print_table(rows: Sequence[tuple[str, str, str]]) -> None:
    """What was chosen and why, a row each."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="cyan", width=LABEL_WIDTH - 2)
    table.add_column(style=STRONG, width=VALUE_WIDTH)
    table.add_column(style=FAINT)
    for row in rows:
        table.add_row(*(Text(safe(cell)) for cell in row))
    console = make_console()
    console.print(table)
    sys.stdout.flush()


def remarks(recipe: Recipe) -> str:
    """The same for a configuration file."""
    rows = [f"  {about}: {value} ({reason})" for about, value, reason in recipe.table()]
    return "\n".join(["Chosen by nemo-bert pretrain, with the reason; options you gave are marked.", *rows])
