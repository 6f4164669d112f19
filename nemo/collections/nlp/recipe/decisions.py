"""Chooses the options of a run: facts about text, machine and time -> options and reasons.

Pure functions; their numbers are in constants.py.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from nemo.collections.nlp.data.inspection.language import name_of
from nemo.collections.nlp.data.tokenizers.suitability import MANY_LOST
from nemo.collections.nlp.options.choices import TRAINED
from nemo.collections.nlp.options.mask_rate import FALLING_MASK_RATE, mask_rates
from nemo.collections.nlp.options.recipe_options import MODEL_SIZES
from nemo.collections.nlp.recipe.constants import (
    ADAPTING_RATE,
    CHARACTERS_PER_TOKEN,
    COUNTING_TOKENS,
    DROPOUT,
    EVALUATION_SHARE,
    EVALUATIONS,
    FAR_FROM_MOST,
    FEW_PASSES,
    HELD_OUT_CHARACTERS,
    HELD_OUT_SHARE,
    LEARNING_RATES,
    LEAST_CHARACTERS,
    LEAST_TOKENS,
    LINES,
    MEASURED_RATES,
    MINUTES,
    MOST_PASSES,
    NSP_WEIGHT,
    OPTIMIZER,
    SAVE_MINUTES,
    SCHEDULE,
    SEQUENCE_LENGTH,
    SHAPES,
    STEP_TOKENS,
    STEP_TOKENS_OF_RUN,
    UNSPACED,
    VOCABULARY,
    VOCABULARY_CHARACTERS,
    VOCABULARY_GROWTH,
)
from nemo.collections.nlp.recipe.cost import tokens_in
from nemo.collections.nlp.recipe.situation import Decision, Pick, Situation
from nemo.collections.nlp.recipe.text_facts import TextFacts


def decide(situation: Situation) -> list[Decision]:
    """All decisions, in order; each may depend on those before it."""
    made: list[Decision] = []
    for rule in _RULES:
        known = {name: value for decision in made for name, value in decision.options.items()}
        if (decision := rule(Pick(situation, known))) is not None:
            made.append(decision)
    return made


def _data(pick: Pick) -> Decision:
    text = pick.text
    some = text.names[0] if len(text.names) == 1 else f"{text.names[0]} and {len(text.names) - 1} more"
    if text.kind == "shards":
        return pick.decision(
            "data", f"{some}: HDF5 shards", "recognized by name", {"mode": "data_preprocessed"}
        )
    if text.kind == "store":
        value = f"{some}: {text.tokens:,} tokens, {text.documents:,} documents"
        return pick.decision("data", value, "already prepared", {"mode": "data_text"})
    files = f"{text.num_files} files, " if text.num_files > 1 else ""
    value = f"{some}: {files}{text.num_bytes / 1e6:.1f} MB, about {text.documents:,} documents"
    reason = f"layout {', '.join(text.layouts)}, found from the content"
    if "text_layout" in pick.typed:
        reason = ""
    if text.is_unnamed:
        reason = "recognized by content, not by name; each file is one or more documents"
    options = {"mode": "data_text", "text_format": text.format, "text_layout": text.layout}
    return pick.decision("data", value, reason, options)


def held_out_share(text: TextFacts, typed: Mapping[str, Any]) -> float:
    """The share of the documents to hold out by hash; 0 if there is held-out text already."""
    if text.kind != "text" or text.held_out is not None or typed.get("eval_data") is not None:
        return 0.0
    return min(HELD_OUT_SHARE, HELD_OUT_CHARACTERS / text.characters)


def _held_out(pick: Pick) -> Decision:
    text = pick.text
    if text.kind != "text":
        return Decision("held out", "the held-out documents of the prepared data", "already prepared", {})
    if text.held_out is not None:
        return pick.decision(
            "held out", text.held_out, "recognized by file name", {"eval_data": text.held_out}
        )
    share = held_out_share(text, pick.typed)
    if share == 0:
        given = pick.typed["eval_data"]
        return Decision("held out", str(given), "given", {"eval_data": given})
    value = f"{share:.1%} of the documents, about {text.characters * share / 1e3:,.0f},000 characters"
    return Decision("held out", value, "chosen by a hash of their text, so copies stay together", {})


def _tokenizer(pick: Pick) -> Decision | None:
    text = pick.text
    if text.kind != "text":
        return None
    if pick.starts_from_model and pick.typed.get("tokenizer") in (None, *TRAINED):
        return Decision("tokenizer", "that of the initial checkpoint", "its weights need it", {})
    scripts = dict(text.scripts)
    language = name_of(text.languages[0][0]) if text.languages else "unknown language"
    unspaced = [script for script in UNSPACED if scripts.get(script, 0) > 0.05]
    if unspaced:
        kind, why = "sentence-piece", f"{unspaced[0]} has no spaces between words"
    elif scripts.get("Han", 0) > 0.3:
        kind, why = "word-piece", f"{language}: a token for every character, words masked whole"
    else:
        kind, why = "word-piece", f"{language}, with spaces between words"
    if pick.typed.get("tokenizer", kind) not in TRAINED:  # an existing one decides about case itself
        return pick.decision("tokenizer", "", "", {"tokenizer": kind})
    kind, why = (pick.typed["tokenizer"], "") if "tokenizer" in pick.typed else (kind, why)
    lower, about_case = _lower_case(text, kind)
    options = {"tokenizer": kind, "do_lower_case": lower}
    if "do_lower_case" in pick.typed:
        lower, about_case = pick.typed["do_lower_case"], ""
    reason = "; ".join(filter(None, (why, about_case)))
    return pick.decision("tokenizer", f"{kind}{', lower-cased' if lower else ''}", reason, options)


def _lower_case(text: TextFacts, kind: str) -> tuple[bool, str]:
    scripts = dict(text.scripts)
    if kind != "word-piece":
        return False, "case is kept"
    if text.is_unnamed:
        return False, "case is kept because it matters in source code"
    if scripts.get("Latin", 0) < 0.5:
        return False, "lower-casing helps only Latin script, and would strip accents"
    if text.lost_marks >= MANY_LOST:
        return False, f"lower-casing would strip accents from {text.lost_marks:.1%} of the letters"
    return True, "Word and word share their statistics"


def _vocabulary(pick: Pick) -> Decision | None:
    text = pick.text
    is_new = text.kind == "text" and pick("tokenizer") in TRAINED
    if not is_new or pick.starts_from_model:
        return None
    grown = VOCABULARY * (text.characters / VOCABULARY_CHARACTERS) ** VOCABULARY_GROWTH
    languages = sum(share > 0.1 for _, share in text.languages)
    least = 1.5 * text.alphabet + 500
    entries = min(30_000 if languages < 2 else 60_000, max(1000, grown * max(1, languages), least))
    entries = max(entries, 2 * text.alphabet + 100)
    chosen = round(entries, -2) if entries < 4000 else round(entries, -3)
    reason = f"scaled to the size of the text (Heaps' law); {text.alphabet:,} different characters"
    return pick.decision("vocabulary", f"{chosen:,.0f} entries", reason, {"vocab_size": int(chosen)})


def _time(pick: Pick) -> Decision:
    names = [name for name in ("num_iters", "num_epochs", "minutes") if name in pick.typed]
    if names and names != ["minutes"]:
        text = ", ".join(f"--{name} {pick.typed[name]}" for name in names)
        return Decision("time", text, "given", {name: pick.typed[name] for name in names})
    reason = "a first result without a long wait; --minutes gives it more"
    return pick.decision("time", f"{MINUTES:g} minutes", reason, {"minutes": MINUTES})


def _model(pick: Pick) -> Decision | None:
    if pick.starts_from_model or pick.typed.get("config_file") is not None:
        return None
    size, reason = pick.situation.size, "given"
    if size is None:
        of_use = _passes_of_use(pick) * pick.text_tokens
        seen = {size: min(of_use, tokens) for size, tokens in _tokens_by_size(pick).items()}
        size, reason = _size(pick.text, seen)
    layers, width, heads = SHAPES[size]
    options = {
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": heads,
        "intermediate_size": 4 * width,
    }
    merged = pick.merged(options)
    shape = f"{merged['num_hidden_layers']} layers x {merged['hidden_size']}"
    if merged == options:
        return pick.decision("model", f"{size}: {shape}", reason, options)
    return pick.decision("model", shape, f"the other sizes are those of {size}", options)


def _tokens_by_size(pick: Pick) -> dict[str, float]:
    """Size -> tokens that it would see; with steps or epochs given, the same for all, on any machine."""
    if pick("minutes") is not None:
        vocabulary = pick("vocab_size")
        return {
            size: tokens_in(pick("minutes"), pick.machine, *SHAPES[size][:2], vocabulary)
            for size in MODEL_SIZES
        }
    tokens = pick.tokens_of_steps(None if "batch_size" in pick.typed else STEP_TOKENS)
    return dict.fromkeys(MODEL_SIZES, tokens)


def _size(text: TextFacts, seen: Mapping[str, float]) -> tuple[str, str]:
    """The largest size for which time and text suffice, and the reason."""
    size, reason = MODEL_SIZES[0], ""
    for larger in MODEL_SIZES[1:]:
        if seen[larger] < LEAST_TOKENS[larger]:
            needed = f"{LEAST_TOKENS[larger] / 1e6:g} million tokens it needs"
            reason = f"{larger} would see {seen[larger] / 1e6:.1f} of the {needed}"
            break
        if text.kind == "text" and text.characters < LEAST_CHARACTERS[larger]:
            reason = f"{larger} would memorize {text.characters / 1e6:.1f} million characters of text"
            break
        size = larger
    return size, f"sees about {seen[size] / 1e6:.1f} million tokens{'; ' if reason else ''}{reason}"


def _passes_of_use(pick: Pick) -> float:
    """The most passes over the text; infinite where its size, or what was trained before, is not known."""
    if pick.text.kind == "shards" or pick.typed.get("load_dir") is not None:
        return math.inf
    return pick("num_epochs") or MOST_PASSES


def _passes(pick: Pick) -> Decision | None:
    """Cap the epochs if the time allows more passes than are useful."""
    if pick("minutes") is None or pick("num_epochs") is not None or math.isinf(_passes_of_use(pick)):
        return None
    if pick.run_tokens < FAR_FROM_MOST * MOST_PASSES * pick.text_tokens:
        return None
    return Decision(
        "passes",
        f"at most {MOST_PASSES} over the text",
        "more would only memorize it; --num_epochs changes that",
        {"num_epochs": MOST_PASSES},
    )


def _sequences(pick: Pick) -> Decision | None:
    if pick.text.kind == "shards":
        return None
    options: dict[str, Any] = {
        "max_seq_length": SEQUENCE_LENGTH,
        "masking": "whole_word",
        "mask_probability": FALLING_MASK_RATE,
    }
    merged = pick.merged(options)
    first, last = mask_rates(merged["mask_probability"])
    share = f"{first:.0%}" if first == last else f"{first:.0%} of the tokens falling to {last:.0%}"
    units = {"token": "tokens", "whole_word": "whole words", "span": "spans"}
    masked = units.get(merged["masking"], merged["masking"])  # the options refuse any other
    value = f"{merged['max_seq_length']} tokens; {masked} masked, {share}"
    reason = "short sequences take less time; many masks teach more at first"
    is_chosen = not {"max_seq_length", "mask_probability"} & pick.typed.keys()
    return pick.decision("sequences", value, reason if is_chosen else "", options)


def _tasks(pick: Pick) -> Decision:
    text = pick.text
    makes_no_pairs = text.kind != "shards" and (
        text.one_sentence_share > 0.5 or (text.kind == "text" and text.documents < 10)
    )
    wants_pairs = pick.typed.get("only_mlm_loss") is False or "nsp_weight" in pick.typed
    if pick("only_mlm_loss") or (makes_no_pairs and not wants_pairs):
        reason = "documents are too short or too few for pairs"
        return pick.decision("tasks", "masked words only", reason, {"only_mlm_loss": True})
    value = f"masked words, and next sentences with a weight of {NSP_WEIGHT:g}"
    reason = "next sentences are still learned, at less cost to masked words"
    return pick.decision("tasks", value, reason, {"nsp_weight": NSP_WEIGHT})


def _start(pick: Pick) -> Decision | None:
    if pick.starts_from_model or pick.text.kind == "shards":
        return None
    few = pick.run_tokens < COUNTING_TOKENS
    return pick.decision(
        "start",
        "weights from counts of neighboring words" if few else "random weights",
        "replaces millions of tokens of training" if few else "counts were not tried in runs this long",
        {"initialization": "counts" if few else "normal"},
    )


def _dropout(pick: Pick) -> Decision | None:
    if pick.text.kind == "shards" or pick.starts_from_model:
        return None
    passes = pick.run_tokens / pick.text_tokens
    rate = 0.0 if passes < FEW_PASSES else DROPOUT
    options = {"hidden_dropout_prob": rate, "attention_probs_dropout_prob": rate}
    hidden, attention = pick.merged(options).values()
    value = f"{hidden:g}" if hidden == attention else f"{hidden:g}, in attention {attention:g}"
    return pick.decision("dropout", value, f"about {passes:.1f} passes over the text", options)


def _batch(pick: Pick) -> Decision:
    if "batch_size" in pick.typed:
        return Decision("batch", f"--batch_size {pick.typed['batch_size']}", "given", {})
    ideal = STEP_TOKENS * math.sqrt(max(pick.run_tokens, 1) / STEP_TOKENS_OF_RUN)
    least = 16_384 if pick.machine.device == "cuda" else max(512, pick("max_seq_length"))
    tokens = min(65_536, max(least, 2 ** round(math.log2(ideal))))
    reason = "grows with the square root of the tokens seen; padding does not count"
    return pick.decision("batch", f"{tokens:,} tokens", reason, {"tokens_per_batch": tokens})


def _optimizer(pick: Pick) -> Decision:
    size = pick.situation.size or _size_like(pick.shape)
    rate = ADAPTING_RATE if pick.starts_from_model else LEARNING_RATES[size]
    options = {**OPTIMIZER, "lr": rate, **SCHEDULE}
    merged = pick.merged(options)
    name = "AdamW" if merged["optimizer"] == OPTIMIZER["optimizer"] else merged["optimizer"]
    value = f"{name}; the rate warms up to {merged['lr']:g}, then falls to 0"
    if merged["lr_policy"] != SCHEDULE["lr_policy"]:
        value = f"{name} at {merged['lr']:g}, {merged['lr_policy']}"
    why = f"the best rate measured for {size}" if size in MEASURED_RATES else f"the usual rate for {size}"
    if pick.starts_from_model:
        why = "a higher rate makes a model forget"
    return pick.decision("optimizer", value, "" if {"lr", "optimizer"} & pick.typed.keys() else why, options)


def _size_like(shape: tuple[int, int]) -> str:
    """The size with the nearest width, and among these the nearest number of layers."""

    def distance(size: str) -> tuple[float, float]:
        layers, width, _ = SHAPES[size]
        return abs(math.log(width / shape[1])), abs(math.log(layers / shape[0]))

    return min(MODEL_SIZES, key=distance)


def _precision(pick: Pick) -> Decision:
    level, value = ("O2", "bf16") if pick.machine.has_bf16 else ("O0", "fp32")
    reason = f"{pick.machine.name} {'with' if pick.machine.has_bf16 else 'without'} bf16 units"
    return pick.decision("precision", f"{level}, {value}", reason, {"amp_opt_level": level})


def _record(pick: Pick) -> Decision:
    """Intervals, in steps, of evaluations, checkpoints and log lines."""
    per_batch = pick("tokens_per_batch") or pick("batch_size") * SEQUENCE_LENGTH
    steps = max(1.0, pick.run_tokens / (per_batch * pick("batches_per_step")))
    held_out = min(HELD_OUT_CHARACTERS, HELD_OUT_SHARE * pick.text.characters or HELD_OUT_CHARACTERS)
    evaluated = held_out / CHARACTERS_PER_TOKEN["others"] / 3  # a third of a training step's time
    evaluations = max(1, min(EVALUATIONS, int(EVALUATION_SHARE * pick.run_tokens / evaluated)))
    minutes = pick("minutes") or MINUTES
    apart = min(max(minutes / 10, SAVE_MINUTES[0]), SAVE_MINUTES[1])
    options = {
        "eval_step_freq": max(1, round(steps / evaluations)),
        "save_step_freq": max(1, round(steps * apart / minutes)),
        "save_epoch_freq": -1,
        "train_step_freq": max(1, round(steps / LINES)),
        "keep_best": True,
    }
    parts = {
        "eval_step_freq": f"about {evaluations + 1} evaluations",
        "save_step_freq": f"a checkpoint about every {apart:g} min",
        "keep_best": "the best is kept",
    }
    value = "; ".join(words for name, words in parts.items() if name not in pick.typed)
    reason = f"evaluations take up to {EVALUATION_SHARE:.0%} of the time"
    return pick.decision("evaluation", value, "" if "eval_step_freq" in pick.typed else reason, options)


_RULES: tuple[Callable[[Pick], Decision | None], ...] = (
    *(_data, _held_out, _tokenizer, _vocabulary, _time, _model, _passes, _sequences, _tasks, _start),
    *(_batch, _optimizer, _dropout, _precision, _record),
)
"""In the order of the table; each sees the decisions before it."""
