"""NLTK's module for Punkt, without the rest of NLTK."""

import sys
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

_NAME = "nltk.tokenize.punkt"


@cache
def nltk_punkt() -> ModuleType:
    """The module `nltk.tokenize.punkt`.

    Imported by name, it would bring all of NLTK, and with it SciPy and scikit-learn where they are installed:
    that takes nearly as long as importing torch. So empty packages stand in for NLTK's meanwhile.
    """
    if "nltk" in sys.modules:
        return import_module(_NAME)
    found = find_spec("nltk")
    (root, *_) = (found and found.submodule_search_locations) or [""]
    for package, folder in (("nltk", root), ("nltk.tokenize", f"{root}/tokenize")):
        stand_in = ModuleType(package)
        stand_in.__path__ = [folder]
        sys.modules[package] = stand_in
    try:
        return import_module(_NAME)
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "nltk"]:
            del sys.modules[name]  # whoever imports NLTK gets all of it
