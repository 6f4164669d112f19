"""Invisible characters, which must not affect where documents begin or end.

Byte order marks occur inside a text where files were joined, zero-width spaces in text from the web.
"""

from itertools import chain

# Unicode's default ignorable code points and control characters, except white space and variation selectors,
# which change the look of the preceding character.
_RANGES = [
    (0x00, 0x08), (0x0E, 0x1B), (0x7F, 0x7F), (0xAD, 0xAD), (0x34F, 0x34F), (0x61C, 0x61C),
    (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180E, 0x180E), (0x200B, 0x200F), (0x202A, 0x202E),
    (0x2060, 0x206F), (0x3164, 0x3164), (0xFEFF, 0xFEFF), (0xFFA0, 0xFFA0), (0xFFF0, 0xFFFB),
    (0xE0000, 0xE007F),
]  # fmt: skip
INVISIBLE = frozenset(map(chr, chain(*(range(first, last + 1) for first, last in _RANGES))))

_SPACES = "".join(filter(str.isspace, map(chr, range(0x3001))))
_AT_ENDS = "".join(sorted(INVISIBLE)) + _SPACES


def visible(line: str) -> str:
    """The line from its first to its last visible character.

    Args:
        line: a line without leading or trailing white space.
    """
    if line and (line[0] in INVISIBLE or line[-1] in INVISIBLE):
        return line.strip(_AT_ENDS)
    return line
