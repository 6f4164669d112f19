"""The figures of an extended vocabulary, for a person to read."""

from collections.abc import Iterator

from nemo.collections.nlp.extension.run import ExtensionResult

SHOWN = 10


def summary(result: ExtensionResult) -> str:
    """Before and after, the words that broke most, and what was added."""
    return "\n".join(_lines(result))


def _lines(result: ExtensionResult) -> Iterator[str]:
    before, after, saved = result.before, result.after, result.extension.saved
    fewer = 1 - after.pieces_per_word / before.pieces_per_word
    yield f"new entries        {len(saved)}: {', '.join(list(saved)[:SHOWN])} ..."
    yield f"pieces per word    {before.pieces_per_word:.3f} -> {after.pieces_per_word:.3f} on held-out lines"
    yield f"unknown words      {before.unknown_share:.3%} -> {after.unknown_share:.3%} of them"
    yield f"tokens             {fewer:.1%} fewer for the same text"
    yield f"speed              the encoder took {result.speed:.2f} times as long before, on the same lines"
    yield f"words cut longer   {result.num_longer}, as a new entry took the place of a better one"
    yield f"model              {result.folder}"
    if result.changed:
        yield "words that broke most, before -> after:"
    for change in result.changed[:SHOWN]:
        yield f"  {change.word} ({change.count}): {' '.join(change.before)} -> {' '.join(change.after)}"
