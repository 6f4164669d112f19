"""From a text to a run: examine it, choose the options, prepare it in the work folder.

<work_dir>/data/       token stores of the text, training and held-out, see `preparation.prepare`
<work_dir>/held_out/   a token store of separate held-out text, if there is any
<work_dir>/recipe.json the decisions, so that a rerun makes the same
"""

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nemo.backends.pytorch import device_for
from nemo.backends.pytorch.checkpoints import checkpoint
from nemo.backends.pytorch.distributed.world import World
from nemo.backends.pytorch.machine import this_machine
from nemo.collections.nlp.checkpoints.initial_checkpoint import InitialCheckpoint, find_initial_checkpoint
from nemo.collections.nlp.data.inputs import TextOptions
from nemo.collections.nlp.data.inputs.places import place_of
from nemo.collections.nlp.data.store.token_store import is_store
from nemo.collections.nlp.data.tokenizers import load_tokenizer
from nemo.collections.nlp.data.tokenizers.choice import TokenizerRequest, choose_tokenizer
from nemo.collections.nlp.data.tokenizers.files import TOKENIZER_FOLDER
from nemo.collections.nlp.options import PretrainingOptions
from nemo.collections.nlp.options.data import TokenizerOptions
from nemo.collections.nlp.options.recipe_options import RecipeOptions, with_given
from nemo.collections.nlp.options.text_reading import TextReading
from nemo.collections.nlp.preparation.options import PrepareOptions
from nemo.collections.nlp.preparation.prepare import prepare
from nemo.collections.nlp.pretraining.data_files import Corpus, Places, compare, held_out_text
from nemo.collections.nlp.recipe.constants import SHAPES
from nemo.collections.nlp.recipe.decisions import decide, held_out_share
from nemo.collections.nlp.recipe.situation import Decision, Situation
from nemo.collections.nlp.recipe.text_facts import TextFacts, facts_of
from nemo.utils.arguments import names_of
from nemo.utils.errors import DataError, UsageError
from nemo.utils.files import write_atomically
from nemo.utils.strict import parse_json

RECIPE_FILE = "recipe.json"
DATA, HELD_OUT = "data", "held_out"  # in the work folder
OUTPUTS = "outputs"


@dataclass(frozen=True)
class Recipe:
    """The decisions for some texts.

    Attributes:
        texts: as given; files with absolute paths.
        decisions: the table.
        preparations: folder in the work folder -> options of the `prepare` that fills it.
        languages: ISO 639 code -> share of the text; None for prepared data.
    """

    texts: tuple[str, ...]
    decisions: tuple[Decision, ...]
    preparations: Mapping[str, Mapping[str, Any]]
    languages: Mapping[str, float] | None = None

    @property
    def chosen(self) -> dict[str, Any]:
        """The options that were chosen."""
        return {name: value for decision in self.decisions for name, value in decision.options.items()}

    def table(self, typed: Mapping[str, Any] | None = None) -> list[tuple[str, str, str]]:
        """Rows of subject, value and reason.

        Args:
            typed: options given on a resume, which replace earlier choices; None: there are none.
        """
        rows = [(decision.about, decision.value, decision.reason) for decision in self.decisions]
        chosen = self.chosen
        given = sorted((typed or {}).items())
        changed = {name: value for name, value in given if chosen.get(name, value) != value}
        if changed:
            values = ", ".join(f"--{name} {value}" for name, value in changed.items())
            rows.append(("from now on", values, "given; replaces the choice made when the run began"))
        return rows

    def to_json(self) -> dict[str, Any]:
        """JSON content, which `recipe_of_json` reads."""
        return asdict(self)


def recipe_of_json(content: Mapping[str, Any]) -> Recipe:
    """The recipe from the content of `Recipe.to_json`."""
    decisions = tuple(Decision(**decision) for decision in content["decisions"])
    preparations = {
        folder: {name: tuple(v) if isinstance(v, list) else v for name, v in options.items()}
        for folder, options in content["preparations"].items()
    }
    return Recipe(tuple(content["texts"]), decisions, preparations, content.get("languages"))


def choose_recipe(options: RecipeOptions, world: World | None = None) -> Recipe:
    """Decide; or, when a run resumes in its work folder, return the earlier decisions.

    Raises:
        UsageError, DataError: the text is not usable, or the work folder belongs to another text.
    """
    world = world or World()
    return recipe_of_json(world.broadcast_object(lambda: _choose(options, world.size).to_json()))


def _choose(options: RecipeOptions, processes: int) -> Recipe:
    texts = tuple(os.path.abspath(text) if os.path.exists(text) else text for text in options.texts)
    work_dir = work_folder(options)
    _refuse_file(work_dir)
    if checkpoint.list_checkpoints(work_dir / "checkpoints"):
        return _earlier_recipe(work_dir, texts, options)
    facts = facts_of(options.texts, TextOptions.of(options))
    if facts.kind == "store" and "vocab_size" in options.typed:
        raise UsageError("the text is already tokenized", where="--vocab_size", fix="leave it out")
    machine = this_machine(device_for(None, int(os.environ.get("LOCAL_RANK", "0"))))
    machine = dataclasses.replace(machine, matmul_rate=processes * machine.matmul_rate)
    initial = find_initial_checkpoint(options)
    sizes = None
    if initial is not None and initial.settings is not None:
        settings = initial.settings
        sizes = settings.num_hidden_layers, settings.hidden_size, settings.vocab_size
    situation = Situation(facts, machine, options.typed, options.size, sizes)
    decisions = [*decide(situation), Decision("work folder", str(work_dir), "named after the text", {})]
    if "work_dir" in options.typed:
        decisions[-1] = dataclasses.replace(decisions[-1], reason="given")
    preparations = _preparations(options, facts, decisions, initial)
    languages = dict(facts.languages) if facts.kind == "text" else None
    return Recipe(texts, tuple(decisions), preparations, languages)


def work_folder(options: RecipeOptions) -> Path:
    """The given folder, or `outputs/<name of the text>`."""
    if "work_dir" in options.typed or options.work_dir != RecipeOptions.work_dir:
        return Path(options.work_dir)
    return Path(OUTPUTS, PrepareOptions(inputs=options.texts).name)


def _refuse_file(work_dir: Path) -> None:
    there = next((folder for folder in (work_dir, *work_dir.parents) if folder.exists()), None)
    if there is not None and not there.is_dir():
        raise UsageError(
            "the work folder path is a file",
            where=work_dir,
            found=there,
            fix="use another --work_dir",
        )


def _earlier_recipe(work_dir: Path, texts: tuple[str, ...], options: RecipeOptions) -> Recipe:
    file = work_dir / RECIPE_FILE
    try:
        recipe = recipe_of_json(parse_json(file.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError(
            "the folder has a run, but not its recipe",
            where=file,
            fix=f"resume it with nemo-bert pretrain --config {work_dir / 'config.yaml'}, "
            "or train in another --work_dir",
        ) from None
    if recipe.texts != texts:
        raise UsageError(
            "the folder has a run on other text",
            where=work_dir,
            found=", ".join(texts),
            expected=", ".join(recipe.texts),
            fix="use another --work_dir",
        )
    chosen = recipe.chosen
    found = chosen.get("num_hidden_layers"), chosen.get("hidden_size")
    if options.size is not None and SHAPES[options.size][:2] != found:
        raise UsageError(
            "the folder has a run of a model of another size",
            where=work_dir,
            found=f"--size {options.size}",
            expected=next((size for size, shape in SHAPES.items() if shape[:2] == found), "no --size"),
            fix="use another --work_dir",
        )
    for name in ("minutes", "num_epochs"):
        if name in options.typed and options.typed[name] != chosen.get(name):
            raise UsageError(
                "the folder has a run of another duration",
                where=work_dir,
                found=f"--{name} {options.typed[name]:g}",
                expected=f"no --{name}" if chosen.get(name) is None else f"--{name} {chosen[name]:g}",
                fix="use another --work_dir",
            )
    return recipe


def _preparations(
    options: RecipeOptions,
    facts: TextFacts,
    decisions: list[Decision],
    initial: InitialCheckpoint | None,
) -> dict[str, dict[str, Any]]:
    """The options of each `prepare` that the run needs, by folder, see `Recipe.preparations`."""
    if facts.kind != "text":
        return {}
    chosen = {name: value for decision in decisions for name, value in decision.options.items()}
    values = {**{name: getattr(options, name) for name in names_of(TokenizerOptions)}, **chosen}
    kind_or_name = values["tokenizer"]
    train_in = work_folder(options) / DATA / TOKENIZER_FOLDER
    choice = choose_tokenizer(TokenizerRequest(kind_or_name, initial=initial, train_in=train_in))
    assert choice is not None  # one can be trained
    tokenizer = kind_or_name if choice.is_new else choice.source
    of_text = {name: values.get(name, getattr(options, name)) for name in names_of(TextReading)}
    common = {
        **{name: values[name] for name in names_of(TokenizerOptions)},
        **of_text,
        "tokenizer": tokenizer,
    }
    share = held_out_share(facts, options.typed)
    preparations = {DATA: {**common, "inputs": facts.inputs, "test_fraction": share}}
    held_out = _held_out_inputs(options, facts)
    if held_out is not None:
        text = dataclasses.replace(TextOptions.of(options), format=facts.format, layout=facts.layout)
        train = Corpus.at([place_of(file) for file in facts.inputs], text)
        compare(train, Corpus.at(held_out, text, held_out=True))
        inputs = tuple(map(str, held_out if isinstance(held_out, list) else [held_out]))
        preparations[HELD_OUT] = {**common, "inputs": inputs, "test_fraction": 0.0}
    return preparations


def _held_out_inputs(options: RecipeOptions, facts: TextFacts) -> Places | None:
    """Separate held-out text that is not prepared yet; None if there is none."""
    where = options.eval_data or facts.held_out
    if where is None:
        return None
    held_out = held_out_text(place_of(where), TextOptions.of(options))
    is_prepared = isinstance(held_out, Path) and is_store(held_out)
    return None if is_prepared else held_out


def settle(options: RecipeOptions, recipe: Recipe) -> PretrainingOptions:
    """The options of the run: the given ones, the chosen ones, and NeMo 0.10's defaults.

    Raises:
        UsageError: given options contradict each other or the chosen ones.
    """
    work_dir = work_folder(options)
    values = {name: getattr(options, name) for name in names_of(PretrainingOptions)}
    values |= recipe.chosen | {n: v for n, v in options.typed.items() if n in values}
    values |= {"mode": recipe.chosen["mode"], "work_dir": str(work_dir)}
    values["train_data"] = str(work_dir / DATA) if DATA in recipe.preparations else recipe.texts[0]
    if HELD_OUT in recipe.preparations:
        values["eval_data"] = str(work_dir / HELD_OUT / "train")
    if DATA in recipe.preparations:  # tokenizing and reading were decided when the text was prepared
        for name in (*names_of(TokenizerOptions), *names_of(TextReading)):
            if name != "sample_size":
                values[name] = getattr(PretrainingOptions, name)
    return with_given(PretrainingOptions(**values), options)


def prepare_text(options: RecipeOptions, recipe: Recipe) -> None:
    """Write the token stores of the run, unless they exist.

    Raises:
        UsageError, DataError, StorageError: as `prepare`.
    """
    work_dir = work_folder(options)
    for folder, preparation in recipe.preparations.items():
        values, tokenizer = dict(preparation), None
        if folder == HELD_OUT:
            values["tokenizer"] = str(work_dir / DATA / TOKENIZER_FOLDER)
            tokenizer = load_tokenizer(values["tokenizer"], values["do_lower_case"])
        manifest = prepare(PrepareOptions(out=str(work_dir / folder), **values), tokenizer)
        if folder == DATA and values["test_fraction"] and "test" not in manifest["stores"]:
            raise DataError(
                "a text without two different documents, so nothing can be held out",
                where=", ".join(recipe.texts),
                fix="say where documents end (--text_layout), or give --eval_data",
            )
    work_dir.mkdir(parents=True, exist_ok=True)
    write_atomically(work_dir / RECIPE_FILE, json.dumps(recipe.to_json(), indent=1).encode())
