"""The machine corpus, on a made-up installation small enough to read."""

from pathlib import Path

import pytest

from nemo.cli.demo_corpus import (
    NearDuplicates,
    collect,
)
from nemo.cli.demo_prose import docstrings_of, paragraphs_of
from nemo.utils.errors import DataError

FIRST = "This function returns the largest of the numbers in the list that it is given."
SECOND = "It raises an error when the list is empty, because nothing is largest there."


def sentence(number: int) -> str:
    """A sentence that shares no 8-gram with that of another number."""
    name = chr(97 + number % 26) * (number // 26 + 1)
    return f"The {name}dog and the {name}cat and the {name}bird run to the {name}hill."


def installation(root: Path, modules: dict[str, str]) -> dict[str, Path]:
    """Folders `stdlib` and `site_packages` with these modules (path -> docstring)."""
    folders = {"stdlib": root / "lib", "site_packages": root / "site"}
    for folder in folders.values():
        folder.mkdir()
    for name, docstring in modules.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'"""{docstring}"""\n', encoding="utf-8")
    return folders


def many_modules(count: int) -> dict[str, str]:
    return {
        f"site/pack/m{number:02}.py": f"{sentence(2 * number)}\n\n{sentence(2 * number + 1)}"
        for number in range(count)
    }


def test_prose_is_kept_without_markup_and_everything_else_falls_away():
    docstring = f"""Title
    =====

    Use :class:`~pack.Reader` to read the ``file`` that is [described here](https://x.org/a) in full.

    >>> example = code("that is not prose and ends in a full stop.")

    x : int
        The number of items in the list, counted from the first one on.
    size (`int`, *optional*): The number of bytes that are read from the file at once.

    short line.

    {FIRST}
    """
    assert paragraphs_of(docstring) == [
        "Use pack.Reader to read the file that is described here in full.",
        "The number of items in the list, counted from the first one on.",
        "The number of bytes that are read from the file at once.",
        FIRST,
    ]


def test_lines_of_one_paragraph_are_joined_and_list_items_are_not():
    text = (
        "A paragraph that goes\nover two lines of the text.\n"
        "- The first item of a list of two.\n- The other item of the very same list."
    )
    assert paragraphs_of(text) == [
        "A paragraph that goes over two lines of the text.",
        "The first item of a list of two.",
        "The other item of the very same list.",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "Only seven words are in this one.",
        "Eight words and more but no end of sentence",
        "x = 1 + 2 * 3 and y = 4 / 5 is it.",
        "Lorem ipsum dolor sit amet consectetur adipiscing elit sed.",
    ],
)
def test_fragments_code_and_other_languages_are_not_prose(text):
    assert paragraphs_of(text) == []


def test_docstrings_come_from_everything_but_assignments():
    source = '''"""module"""
class A:
    """class"""
    def f(self):
        """method"""
        g("""inside""")
if True:
    async def h():
        """function"""
add_docstr(A.f, """added""")
x = """assigned"""
'''
    assert docstrings_of(source) == ["module", "class", "method", "function", "added"]


def test_a_near_duplicate_has_more_than_half_of_its_grams_known():
    words = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    duplicates = NearDuplicates(gram=8, share=0.5)
    assert duplicates.is_new(" ".join(words))  # 3 grams
    assert not duplicates.is_new("One, two three four five six seven eight nine TEN!")
    assert not duplicates.is_new(" ".join([*words, "more"]))  # 3 of 4 known
    assert duplicates.is_new(" ".join([*words[:8], "a", "b"]))  # 1 of 3 known


def test_documents_are_modules_in_order_and_split_as_a_whole(tmp_path):
    folders = installation(tmp_path, many_modules(20))
    corpus = collect(tmp_path / "out", valid_share=0.1, minimum_valid_bytes=0, workers=1, **folders)
    train = corpus.train.read_text().split("\n\n")
    valid = corpus.valid.read_text().split("\n\n")
    documents = [f"{sentence(2 * n)}\n{sentence(2 * n + 1)}" for n in range(20)]
    assert [len(train), len(valid)] == [18, 2]
    held_out = [text.rstrip("\n") for text in valid]
    assert [text.rstrip("\n") for text in train] == [d for d in documents if d not in held_out]
    assert corpus.sources["pack"].documents == 20


def test_any_number_of_workers_gives_the_same_bytes(tmp_path):
    folders = installation(tmp_path, many_modules(20))
    one, two = (collect(tmp_path / str(n), workers=n, **folders) for n in (1, 2))
    assert one.train.read_bytes() == two.train.read_bytes()
    assert one.valid.read_bytes() == two.valid.read_bytes()


def test_enough_is_held_out_whatever_the_share(tmp_path):
    folders = installation(tmp_path, many_modules(20))
    corpus = collect(tmp_path / "out", valid_share=0.01, minimum_valid_bytes=400, workers=1, **folders)
    assert 400 <= corpus.valid_size < 600


def test_reading_stops_at_the_maximum(tmp_path):
    folders = installation(tmp_path, many_modules(20))
    corpus = collect(tmp_path / "out", maximum_bytes=500, minimum_valid_bytes=0, workers=1, **folders)
    assert 500 <= corpus.train_size + corpus.valid_size < 700


def test_repeats_between_modules_are_dropped_and_counted(tmp_path):
    modules = many_modules(4)
    modules["site/pack/z.py"] = modules["site/pack/m00.py"]
    corpus = collect(tmp_path / "out", workers=1, **installation(tmp_path, modules))
    assert corpus.sources["pack"].documents == 4
    assert corpus.sources["pack"].repeated == 2


def test_tests_are_left_out_and_broken_files_are_counted(tmp_path):
    modules = many_modules(4) | {"site/pack/tests/t.py": f"{FIRST}\n\n{SECOND}"}
    folders = installation(tmp_path, modules)
    (tmp_path / "site/pack/broken.py").write_text('"""unfinished')
    (tmp_path / "site/pack/binary.py").write_bytes(b"\xff\xfe'''\x00")
    corpus = collect(tmp_path / "out", workers=1, **folders)
    assert corpus.sources["pack"].documents == 4
    assert corpus.sources["pack"].unreadable == 2


def test_no_code_that_is_found_is_run(tmp_path):
    folders = installation(tmp_path, many_modules(4))
    trap = tmp_path / "ran"
    (tmp_path / "site/pack/trap.py").write_text(f'"""{FIRST}"""\nopen({str(trap)!r}, "w")\n')
    collect(tmp_path / "out", workers=1, **folders)
    assert not trap.exists()


def test_help_topics_and_readmes_are_read(tmp_path):
    folders = installation(tmp_path, many_modules(4))
    (tmp_path / "lib/pydoc_data").mkdir()
    (tmp_path / "lib/pydoc_data/topics.py").write_text(f"topics = {{'max': '{FIRST} {FIRST}'}}\n")
    (tmp_path / "site/pack-1.dist-info").mkdir()
    (tmp_path / "site/pack-1.dist-info/METADATA").write_text(
        f"Name: pack\nSummary: s\nLicense: {sentence(91)}\n\n# Pack\n\n{SECOND}\n\n{sentence(90)}\n"
    )
    corpus = collect(tmp_path / "out", workers=1, **folders)
    assert corpus.sources["help topics"].documents == 1
    assert corpus.sources["package READMEs"].paragraphs == 2


def test_a_machine_without_prose_is_an_error(tmp_path):
    with pytest.raises(DataError, match="not enough English prose"):
        collect(tmp_path / "out", workers=1, **installation(tmp_path, {}))
