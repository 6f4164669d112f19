"""Opens a tokenizer where it can do no harm: `python -P trial.py sentencepiece|tokenizers < file`.

A crafted one can crash the process that opens it, or that encodes a text with it. So this is a program of its
own, with limited memory; it imports nothing of ours. Exit code 0: it works; otherwise the last line on stderr
says why it does not.
"""

import re
import resource
import sys

MEMORY = 2 << 30
_EVERY = [*range(0x20, 0xD800), *range(0xE000, 0x20000)]  # characters, without the halves of surrogate pairs
_IN_A_TEXT = 100
TEXTS = ["".join(map(chr, _EVERY[start : start + _IN_A_TEXT])) for start in range(0, len(_EVERY), _IN_A_TEXT)]


def try_sentencepiece(content: bytes) -> None:
    """Encode every character, normalised as the model says, and decode every piece.

    Raises:
        RuntimeError: it is no model.
        ValueError: it gives ids that it has no pieces for, or not the pieces that it has.
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
    """Encode every character and decode what comes of it. Raises whatever the library does."""
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
    except BaseException as error:  # a panic of `tokenizers` is no Exception
        told = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        sys.stderr.write("\n" + re.sub("^[A-Z_]+: ", "", told) + "\n")  # without INTERNAL, as its authors say
        sys.exit(2)
