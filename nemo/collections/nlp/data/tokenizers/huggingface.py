"""Opens transformers tokenizers as `AutoTokenizer` does, and saves them so that it can open them again."""

import json
from functools import partial
from pathlib import Path
from typing import Any

from nemo.collections.nlp.data.tokenizers.files import (
    TRIMMED,
    VOCABULARY_FILE,
    is_placeholder,
    placeholder,
    read_file,
    read_json,
    read_vocabulary,
    try_out,
    vocabulary_lines,
)
from nemo.collections.nlp.data.tokenizers.requirements import check_kind, warn_of_shared_tokens
from nemo.collections.nlp.data.tokenizers.special_tokens import (
    MODEL_SPECIAL_TOKENS,
    NEEDED_KINDS,
    vocabulary_order,
)
from nemo.collections.nlp.models.hub import find, quiet
from nemo.utils.errors import UsageError, reason
from nemo.utils.logging import logging

TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"
MODEL_CONFIG_FILE = "config.json"
_JSON_FILES = (CONFIG_FILE, MODEL_CONFIG_FILE, "special_tokens_map.json", "added_tokens.json")
FILES = (TOKENIZER_FILE, *_JSON_FILES)
"""Files that may say how to use the vocabulary in a folder."""
_CANNOT_BE_READ = "the tokenizer cannot be read"


def open_vocabulary(file: Path, do_lower_case: bool) -> Any:
    """BERT's tokenizer over a `vocab.txt`, ignoring files beside it.

    Raises:
        MissingFileError, UsageError: as `read_vocabulary`, or a special token is missing.
    """
    from transformers import BertTokenizer

    lines = read_vocabulary(file, required=vocabulary_order())
    warn_of_case(file, do_lower_case)
    tokenizer = BertTokenizer(vocab=str(file), do_lower_case=do_lower_case)
    return _fit_for_bert(tokenizer, file, lines)


def open_description(file: Path) -> Any:
    """The tokenizer in a `tokenizer.json`, ignoring files beside it.

    Raises:
        MissingFileError, UsageError: it cannot be read, or is not a BERT tokenizer.
    """
    from transformers import PreTrainedTokenizerFast

    _try_description(file)
    return _fit_for_bert(PreTrainedTokenizerFast(tokenizer_file=str(file)), file)


def open_pretrained(name: str, do_lower_case: bool = False) -> Any:
    """The tokenizer in a folder, or with a name on the hub.

    It is the one that `AutoTokenizer` opens. If nothing says which kind it is, `AutoTokenizer` refuses, and
    this function assumes BERT's.

    Args:
        do_lower_case: for a folder with a `vocab.txt` and no file that specifies its case.

    Raises:
        UsageError: there is none, its files are damaged, or it does not suit a BERT.
    """
    folder = Path(name)
    lines = _check_files(folder) if folder.is_dir() else None
    settings = {"do_lower_case": do_lower_case} if is_bare(folder) else {}
    try:
        tokenizer = find(name, partial(_load, settings))
    except OSError as error:
        raise UsageError(
            "no pretrained tokenizer of this name",
            where=name,
            found=reason(error),
            expected="a Hugging Face folder, or a name in the cache or on the hub",
        ) from error
    except Exception as error:  # `tokenizers` has no narrower class for what it cannot read
        raise _unreadable(folder, error) from error
    return _fit_for_bert(tokenizer, folder, lines)


def _unreadable(folder: Path, error: Exception) -> UsageError:
    """A one-line error for an error of transformers, one of which fills a page."""
    if "Couldn't instantiate the backend tokenizer" not in str(error) or not folder.is_dir():
        return UsageError(_CANNOT_BE_READ, where=folder, found=reason(error))
    said = [
        f"{key} {value!r}"
        for name, key in ((CONFIG_FILE, "tokenizer_class"), (MODEL_CONFIG_FILE, "model_type"))
        if (folder / name).is_file() and (value := read_json(folder / name).get(key))
    ]
    return UsageError(
        "transformers cannot open the kind of tokenizer that this folder declares",
        where=folder,
        found=", ".join(said) or None,
        fix=f'add its {TOKENIZER_FILE}, or write "tokenizer_class": "BertTokenizer" in {CONFIG_FILE} if '
        f"{VOCABULARY_FILE} is that of a BERT",
    )


def is_bare(folder: Path) -> bool:
    """Whether a folder has a `vocab.txt`, and no file that says how to use it."""
    says_how = (TOKENIZER_FILE, CONFIG_FILE, MODEL_CONFIG_FILE)
    return (folder / VOCABULARY_FILE).is_file() and not any((folder / name).exists() for name in says_how)


def tokens_of(tokenizer: Any) -> list[str]:
    """The tokens in their original spelling, in order of their ids.

    `convert_ids_to_tokens` returns some added tokens in normalized form: `[mask]` for `[MASK]`.
    """
    ids: dict[str, int] = tokenizer.get_vocab()
    return sorted(ids, key=ids.__getitem__)


def save_pretrained(tokenizer: Any, folder: Path) -> None:
    """Write files that transformers, both version 5 and version 4, opens as the same tokenizer."""
    with quiet():
        tokenizer.save_pretrained(folder)
    path = folder / CONFIG_FILE
    config = json.loads(path.read_bytes())
    if config["tokenizer_class"] == "TokenizersBackend":  # as version 5 calls it
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
    for name in ("is_local", "local_files_only"):  # properties of the folder it was opened from
        config.pop(name, None)
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _load(settings: dict[str, Any], source: str, local_only: bool) -> Any:
    from transformers import AutoTokenizer, BertTokenizer

    with quiet():
        if settings:
            return BertTokenizer.from_pretrained(source, local_files_only=local_only, **settings)
        try:
            return AutoTokenizer.from_pretrained(source, local_files_only=local_only, trust_remote_code=False)
        except ValueError:
            if _says_kind(source, local_only):
                raise
            return BertTokenizer.from_pretrained(source, local_files_only=local_only)


def _says_kind(source: str, local_only: bool) -> bool:
    from transformers import PretrainedConfig
    from transformers.models.auto.tokenization_auto import get_tokenizer_config

    says = get_tokenizer_config(source, local_files_only=local_only)
    try:
        of_model, _ = PretrainedConfig.get_config_dict(source, local_files_only=local_only)
    except OSError:
        of_model = {}
    return any(says.get(key) or of_model.get(key) for key in ("tokenizer_class", "auto_map", "model_type"))


def _check_files(folder: Path) -> list[str] | None:
    """Validate a folder before transformers opens it; returns the lines of `vocab.txt` if it is used.

    Raises:
        UsageError: one of them is damaged.
    """
    for name in _JSON_FILES:
        if (folder / name).is_file():
            read_json(folder / name)
    if (folder / TOKENIZER_FILE).is_file():
        _try_description(folder / TOKENIZER_FILE)
        return None
    vocabulary = folder / VOCABULARY_FILE
    if not vocabulary.is_file():
        return None
    return read_vocabulary(vocabulary, required=vocabulary_order() if is_bare(folder) else ())


def _try_description(file: Path) -> None:
    read_json(file)
    try_out("tokenizers", read_file(file), file, _CANNOT_BE_READ)


def _fit_for_bert(tokenizer: Any, source: Path, lines: list[str] | None = None) -> Any:
    """Complete a tokenizer so that every id has a token and its special tokens are known by kind.

    Args:
        source: where it comes from, for messages.
        lines: lines of the `vocab.txt` that was read.

    Raises:
        UsageError: as `check_kind`, or a special token is missing, or two tokens have the same id.
    """
    from tokenizers import models

    check_kind(tokenizer, source)
    _fill_gaps(tokenizer, lines or [])
    vocabulary = tokenizer.get_vocab()
    if sorted(vocabulary.values()) != list(range(len(vocabulary))):
        raise UsageError("ids are missing or shared between tokens", where=source)
    missing = [kind for kind in NEEDED_KINDS if kind not in tokenizer.special_tokens_map]
    for family in MODEL_SPECIAL_TOKENS.values():
        if missing and all(family[kind] in vocabulary for kind in NEEDED_KINDS):
            for kind in missing:
                _warn_of_none(source, kind, family[kind])
                setattr(tokenizer, kind, family[kind])
            missing = []
    if missing:
        raise UsageError(
            "not a BERT tokenizer",
            where=source,
            found=f"no {', '.join(missing)}",
            fix=f"define them in a {CONFIG_FILE} beside it, and name the folder",
        )
    warn_of_shared_tokens(tokenizer, source)
    model = tokenizer.backend_tokenizer.model
    if isinstance(model, models.WordPiece) and model.token_to_id(model.unk_token) is None:
        raise UsageError(
            "its WordPieces have no unknown token",
            where=source,
            found=f"{len(vocabulary):,} tokens",
            expected=f"{model.unk_token} among them",
        )
    if source.is_dir() and lines is None:
        _warn_of_contradiction(tokenizer, source)
    return tokenizer


def _warn_of_none(source: Path, kind: str, token: str) -> None:
    """Warn if the configuration says that there is no such token, but one is needed."""
    config = source / CONFIG_FILE
    if config.is_file() and read_json(config).get(kind, token) is None:
        logging.warning("%s says %s: null, but BERT needs one: %s is used", config, kind, token)


def _fill_gaps(tokenizer: Any, lines: list[str]) -> None:
    """Give every WordPiece id without a token one: the line of `vocab.txt`, or a placeholder.

    `tokenizers` strips white space from the end of lines, so a line of white space (such as U+2028 in the
    file of bert-base-chinese) or a blank one gives no token; of equal lines it keeps the last.
    """
    from tokenizers import models

    backend = tokenizer.backend_tokenizer
    model = backend.model
    if not isinstance(model, models.WordPiece):
        return
    tokens = {number: token for token, number in tokenizer.get_vocab().items() if token}
    white_space = {i: line for i, line in enumerate(lines) if line.strip(" \t") and not line.strip(TRIMMED)}
    size = max([*tokens, *white_space], default=-1) + 1
    missing = [number for number in range(size) if number not in tokens]
    if not missing and backend.token_to_id("") is None:
        return
    vocabulary = {t: i for t, i in backend.get_vocab(with_added_tokens=False).items() if t}
    for number in missing:
        line = white_space.get(number, "")
        vocabulary[placeholder(number) if not line or line in vocabulary else line] = number
    backend.model = models.WordPiece(
        vocabulary,
        unk_token=model.unk_token,
        max_input_chars_per_word=model.max_input_chars_per_word,
        continuing_subword_prefix=model.continuing_subword_prefix,
    )


def _warn_of_contradiction(tokenizer: Any, folder: Path) -> None:
    """Warn if a `vocab.txt` has other tokens than the `tokenizer.json` beside it, which was read."""
    from tokenizers import models

    used, unused = folder / TOKENIZER_FILE, folder / VOCABULARY_FILE
    if not (
        used.is_file()
        and unused.is_file()
        and isinstance(tokenizer.backend_tokenizer.model, models.WordPiece)
    ):
        return
    read = {line.rstrip(TRIMMED): i for i, line in enumerate(vocabulary_lines(read_file(unused)))}
    listed = {i: line for line, i in read.items() if line and not is_placeholder(line)}
    tokens = enumerate(tokens_of(tokenizer))
    known = {i: token for i, token in tokens if token.strip(TRIMMED) and not is_placeholder(token)}
    of_model = range(tokenizer.vocab_size)  # added tokens may be in the file or not
    differ = [i for i, token in known.items() if listed.get(i) != token and (i in listed or i in of_model)]
    differ += listed.keys() - known.keys()
    if differ:
        first = min(differ)
        texts = ["missing" if names.get(first) is None else repr(names[first]) for names in (known, listed)]
        logging.warning(
            "%s is used but contradicts %s, which is ignored: token %d is %s, and line %d is %s; "
            "fix: delete the outdated one",
            used,
            unused,
            first,
            texts[0],
            first + 1,
            texts[1],
        )


def warn_of_case(vocabulary: Path, do_lower_case: bool) -> None:
    """Warn if a `vocab.txt` given as a file is read with another case setting than its folder specifies."""
    config = vocabulary.with_name(CONFIG_FILE)
    if not config.is_file():
        return
    said = read_json(config).get("do_lower_case", True)
    if said != do_lower_case:
        logging.warning(
            "%s says do_lower_case: %s, but %s given as a file is read with %s; fix: name the folder",
            config,
            json.dumps(said),
            vocabulary,
            json.dumps(do_lower_case),
        )
