"""What several tests need."""

import fcntl
import os
import random
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nemo.core import NeuralModuleFactory

PATIENCE = 600
"""Seconds after which a test stops waiting for what must come. Machines are busy: no test asserts times."""

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that no worker is left with a long one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Token stores of texts that are soon gone go to a cache that goes with them; kernels are kept."""
    kept = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "nemo-bert")
    cache = tmp_path_factory.mktemp("cache") / "nemo-bert"
    cache.mkdir()
    kept.mkdir(parents=True, exist_ok=True)
    for kernel in kept.glob("kernels-*"):
        shutil.copy(kernel, cache)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache.parent))
        yield
    for kernel in cache.glob("kernels-*"):
        if not (kept / kernel.name).exists():
            shutil.copy(kernel, kept)


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers have in common."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


def made_once(folder: Path, make: Callable[[Path], object]) -> Path:
    """`folder`, made by the worker that asks first; the others wait for it. Tests change nothing in it."""
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = folder.with_name(f"{folder.name}.made")
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of one who failed or was killed
            make(folder)
            done.touch()
    return folder


@pytest.fixture(autouse=True)
def _no_factory_is_left_over():
    """Every test begins without a default factory."""
    NeuralModuleFactory.reset_default_factory()


@pytest.fixture
def shared_data() -> Path:
    """Real text that is not part of the repository."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the shared data folder is not beside this checkout")
    return SHARED_DATA


def write_english(folder: Path) -> Path:
    """Make a folder with train.txt and valid.txt of made-up English: documents of short sentences."""
    rng = random.Random(0)
    nouns = ["cat", "dog", "bird", "house", "river", "tree", "child", "boat", "stone", "cloud", "farmer"]
    verbs = ["sees", "likes", "follows", "finds", "carries", "paints", "watches", "forgets"]
    places = ["in the garden", "near the old bridge", "behind the school", "on the hill", "at night"]

    def sentence() -> str:
        a, b = rng.sample(nouns, 2)
        return f"The {a} {rng.choice(verbs)} the {b} {rng.choice(places)}."

    folder.mkdir(parents=True)
    for name, documents in (("train", 120), ("valid", 20)):
        texts = ["\n".join(sentence() for _ in range(rng.randint(4, 12))) for _ in range(documents)]
        (folder / f"{name}.txt").write_text("\n\n".join(texts) + "\n", encoding="utf-8")
    return folder


def write_wikitext(folder: Path) -> Path:
    """Make a folder with train.txt, valid.txt and test.txt of WikiText-2's articles.

    Of made-up English where the shared data is not.
    """
    if not SHARED_DATA.is_dir():
        write_english(folder)
        shutil.copy(folder / "valid.txt", folder / "test.txt")
        return folder
    text = (SHARED_DATA / "wikitext-2" / "valid.txt").read_text(encoding="utf-8")
    _, *articles = re.split(r"^(?= = [^=].* = $)", text, flags=re.MULTILINE)
    folder.mkdir(parents=True)
    for name, some in (("train", articles[:5]), ("valid", articles[5:6]), ("test", articles[6:7])):
        (folder / f"{name}.txt").write_text("".join(some), encoding="utf-8")
    return folder


@pytest.fixture
def english(tmp_path: Path) -> Path:
    """What `write_english` makes."""
    return write_english(tmp_path / "english")
