"""Opens a tokenizer where a crash does no harm: `python -P crash_test.py sentencepiece|tokenizers < file`.

A crafted file can crash the process that opens it or encodes text with it. So this is a separate program with
limited memory, which imports nothing from the package. Exit code 0: it works; otherwise the last line on
stderr says why not.
"""

import re
import resource
import sys

MEMORY = 2 << 30
_EVERY = [*range(0x20, 0xD800), *range(0xE000, 0x20000)]  # characters, without surrogates
_IN_A_TEXT = 100
TEXTS = ["".join(map(chr, _EVERY[start : start + _IN_A_TEXT])) for start in range(0, len(_EVERY), _IN_A_TEXT)]


def try_sentencepiece(content: bytes) -> None:
    """Encode every character, normalized by the model, and decode every piece.

    Raises:
        RuntimeError: it is not a model.
        ValueError: it returns ids without pieces, or does not find its own pieces.
    """
    from sentencepiece import SentencePieceProcessor

    model = SentencePieceProcessor(model_proto=content)
    pieces = [model.id_to_piece(number) for number in range(len(model))]
    for number, piece in enumerate(pieces):
        if pieces[model.piece_to_id(piece)] != piece:
            raise ValueError(f"piece {number} cannot be found by its text")
    for text in TEXTS:
        ids = model.encode(text)
        if not all(0 <= number < len(pieces) for number in ids):
            raise ValueError(f"encodes as id {max(ids)}, but has only {len(pieces)} pieces")
        model.decode(ids)


def try_tokenizers(content: bytes) -> None:
    """Encode every character and decode the result. Raises whatever the library raises."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(content.decode())
    for text in TEXTS:
        tokenizer.decode(tokenizer.encode(text).ids)


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    run = {"sentencepiece": try_sentencepiece, "tokenizers": try_tokenizers}[sys.argv[1]]
    try:
        run(sys.stdin.buffer.read())
    except BaseException as error:  # a panic in `tokenizers` is not an Exception
        message = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        sys.stderr.write(
            "\n" + re.sub("^[A-Z_]+: ", "", message) + "\n"
        )  # without INTERNAL, as its authors say
        sys.exit(2)
