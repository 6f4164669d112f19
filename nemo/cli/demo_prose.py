"""Extracting English prose from docstrings and READMEs, without markup, parameter lists and code."""

import ast
import inspect
import re
import warnings
from collections.abc import Iterator

FUNCTION_WORDS = frozenset(
    {"a", "an", "and", "are", "as", "be", "by", "for", "from", "if", "in", "is", "it"}
    | {"of", "on", "or", "that", "the", "this", "to", "with"}
)
_BREAK = re.compile(r"^\s*([=\-~^*#`_+|.]{3,}|>>>.*|\.\.\s.*|@\w+.*|:\w+.*:|[|+].*)?\s*$")
_LIST_MARK = re.compile(r"^([-*+•]|\d+[.)]|\(\w\)|#+)\s+")
# "name (type): text" and "name -- text"; NumPy's "name : type" has its text on the next line.
_ENTRY = re.compile(r"^[*`'\"]*[\w.]+[*`'\"]*(\s*(\([^)]*\)|\[[^\]]*\]))?(:|\s--)\s+")
_MARKUP = (
    (re.compile(r"```.*?(```|$)", re.DOTALL), ""),
    (re.compile(r"!\[[^\]]*\]\([^)]*\)"), ""),
    (re.compile(r"\[([^\]]*)\]\s?[(\[][^)\]]*[)\]]"), r"\1"),
    (re.compile(r":[\w:+-]+:`[~!]?([^`<]+?)(\s*<[^`]*>)?`"), r"\1"),
    (re.compile(r"`([^`<]+?)\s*<[^`]*>`_{1,2}"), r"\1"),
    (re.compile(r"<?https?://[^\s>)]+>?"), ""),
    (re.compile(r"</?\w[^>]{0,200}>"), ""),
    (re.compile(r"\[(`[^`]*`)\]"), r"\1"),
    (re.compile(r"`{1,2}_?|\*{1,2}(?=\w)|(?<=[\w.,;:)])\*{1,2}"), ""),
    (re.compile(r"\s+"), " "),
)
_WORD = re.compile(r"^[\"'(\[]*[A-Za-z]+([-'/][A-Za-z]+)*[\"')\].,;:!?]*$")
_START = re.compile(r"^[\"'(]?[A-Za-z]")
_END = re.compile(r"[.!?][\"')]*$")


def paragraphs_of(text: str) -> list[str]:
    """The prose paragraphs of a docstring or README, free of markup.

    Code, tables, headings, signatures and fragments are dropped. A paragraph is kept if it has at least eight
    words, 70% of them alphabetic, at least one English function word, and ends a sentence.
    """
    return [clean for block in _blocks(text) if _is_prose(clean := _without_markup(block))]


def docstrings_of(source: str) -> list[str]:
    """The docstrings of a Python source, and the strings passed to module-level calls.

    Such calls, of `add_docstr` for example, set the docstrings of compiled functions.

    Raises:
        SyntaxError, ValueError: the source does not parse.
    """
    if '"""' not in source and "'''" not in source:
        return []  # one-line strings are not worth parsing
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in third-party strings
        return list(_texts_in(ast.parse(source)))


def _texts_in(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        docstring = ast.get_docstring(node, clean=False)
        if docstring:
            yield docstring
    for child in getattr(node, "body", ()) if not isinstance(node, ast.Lambda) else ():
        if isinstance(child, ast.Expr) and isinstance(child.value, ast.Call):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                for inner in ast.walk(child):
                    if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
                        yield inner.value
        elif isinstance(child, ast.stmt):
            yield from _texts_in(child)


def _blocks(text: str) -> Iterator[str]:
    """Blocks of lines, separated by blank lines, indentation and list marks."""
    block: list[str] = []
    indent = 0
    in_fence = False
    for line in inspect.cleandoc(text).splitlines():
        fence = line.lstrip().startswith("```")
        in_fence ^= fence
        stripped = line.strip()
        here = len(line) - len(line.lstrip())
        is_break = fence or in_fence or _BREAK.match(line) is not None
        is_hanging = len(block) == 1 and bool(_LIST_MARK.match(block[0]) or _ENTRY.match(block[0]))
        if block and (
            is_break or _LIST_MARK.match(stripped) or here < indent or (here > indent and not is_hanging)
        ):
            yield " ".join(block)
            block = []
        if not is_break:
            block.append(stripped)
            indent = here
    if block:
        yield " ".join(block)


def _without_markup(block: str) -> str:
    block = _ENTRY.sub("", _LIST_MARK.sub("", block))
    for pattern, replacement in _MARKUP:
        block = pattern.sub(replacement, block)
    return block.strip()


def _is_prose(text: str) -> bool:
    if not (_START.match(text) and _END.search(text)):
        return False
    words = text.split()
    alphabetic = sum(1 for word in words if _WORD.match(word))
    return (
        len(words) >= 8
        and alphabetic >= 0.7 * len(words)
        and max(map(len, words)) <= 60
        and not FUNCTION_WORDS.isdisjoint(text.lower().split())
    )
