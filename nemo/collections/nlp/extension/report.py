"""A readable summary of an extended vocabulary."""

from collections.abc import Iterator

from nemo.collections.nlp.extension.run import ExtensionResult

SHOWN = 10


def summary(result: ExtensionResult) -> str:
    """Figures before and after, the new entries, and the words that save the most pieces."""
    return "\n".join(_lines(result))


def _lines(result: ExtensionResult) -> Iterator[str]:
    before, after, saved = result.before, result.after, result.extension.saved
    fewer = 1 - after.pieces_per_word / before.pieces_per_word
    more = ", ..." if len(saved) > SHOWN else ""
    yield f"new entries        {len(saved)}: {', '.join(list(saved)[:SHOWN])}{more}"
    yield f"pieces per word    {before.pieces_per_word:.3f} -> {after.pieces_per_word:.3f} on held-out lines"
    yield f"unknown words      {before.unknown_share:.3%} -> {after.unknown_share:.3%}"
    yield f"tokens             {fewer:.1%} fewer for the same text"
    yield f"speed              the encoder reads the same lines {result.speed:.2f} times as fast"
    yield f"worse splits       {result.num_longer} words have more pieces than before"
    yield f"model              {result.folder}"
    unknown = [change for change in result.changed if change.was_unknown]
    saving = [change for change in result.changed if change.saved > 0 and not change.was_unknown]
    for title, changes in (("words that save the most pieces", saving), ("words that were unknown", unknown)):
        if changes:
            yield f"{title}, before -> after:"
        for change in changes[:SHOWN]:
            yield f"  {change.word} ({change.count}): {' '.join(change.before)} -> {' '.join(change.after)}"
