"""The languages of a text, predicted from its letters (py3langid, Lui and Baldwin 2012)."""

import tempfile
from collections import Counter
from collections.abc import Iterable

from nemo.utils.files import storage_errors

EXCERPT_CHARS = 500  # predictions for a few words are poor
MOST_EXCERPTS = 400
_CHINESE = ("wuu", "yue")  # hard to distinguish from zh by their characters
_NO_LANGUAGE = "zxx"
_NAMES = {
    "ar": "Arabic", "bg": "Bulgarian", "bn": "Bengali", "ca": "Catalan", "cs": "Czech", "da": "Danish",
    "de": "German", "el": "Greek", "en": "English", "es": "Spanish", "et": "Estonian", "eu": "Basque",
    "fa": "Persian", "fi": "Finnish", "fr": "French", "he": "Hebrew", "hi": "Hindi", "hr": "Croatian",
    "hu": "Hungarian", "id": "Indonesian", "is": "Icelandic", "it": "Italian", "ja": "Japanese",
    "ko": "Korean", "la": "Latin", "lt": "Lithuanian", "lv": "Latvian", "nl": "Dutch", "no": "Norwegian",
    "pl": "Polish", "pt": "Portuguese", "ro": "Romanian", "ru": "Russian", "sk": "Slovak", "sl": "Slovenian",
    "sr": "Serbian", "sv": "Swedish", "sw": "Swahili", "ta": "Tamil", "te": "Telugu", "th": "Thai",
    "tr": "Turkish", "uk": "Ukrainian", "ur": "Urdu", "vi": "Vietnamese", "zh": "Chinese",
}  # fmt: skip


def name_of(language: str) -> str:
    """The name of a language; its code if it is rare."""
    return _NAMES.get(language, language)


def languages_of(texts: Iterable[str]) -> dict[str, float]:
    """ISO 639 code of a language -> its share, the largest first; predicted; empty for text without letters.

    Raises:
        StorageError: no room for a temporary file, into which py3langid unpacks its model.
    """
    from py3langid import classify

    excerpts = _excerpts(texts)
    sizes: Counter[str] = Counter()
    for excerpt in excerpts[:: max(1, len(excerpts) // MOST_EXCERPTS)]:
        if any(map(str.isalpha, excerpt)):
            with storage_errors(tempfile.gettempdir()):
                code = classify(excerpt)[0]
            sizes["zh" if code in _CHINESE else code] += len(excerpt)
    del sizes[_NO_LANGUAGE]
    return {language: size / sizes.total() for language, size in sizes.most_common()}


def _excerpts(texts: Iterable[str]) -> list[str]:
    """Neighboring texts together, until they are long enough to classify; long ones are cut."""
    excerpts, excerpt = [], ""
    for text in texts:
        excerpt += text[:EXCERPT_CHARS] + "\n"
        if len(excerpt) > EXCERPT_CHARS:
            excerpts.append(excerpt)
            excerpt = ""
    return excerpts or [excerpt]
