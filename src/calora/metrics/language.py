"""Language: whether an answer is in the language that was asked for."""

from functools import cache
from typing import TYPE_CHECKING

from calora.errors import CaloraError

if TYPE_CHECKING:
    from lingua import LanguageDetector

LANGUAGES = ("en", "es", "fr", "de")


def detect_language(text: str, also: str | None = None) -> str | None:
    """Name the language of a text, the likeliest of `LANGUAGES` according to lingua.

    A text in any other language is given one of these all the same.

    Args:
        text: Any text; a sentence or more is safe, a few words are not.
        also: The code of one more language that it may be in.

    Returns:
        A two-letter code, or None for a text without words.
    """
    language = _detector(also if also not in LANGUAGES else None).detect_language_of(text)
    return language.iso_code_639_1.name.lower() if language else None


def in_language(text: str, code: str) -> bool:
    """Tell whether a text is in a language; an empty one is in none.

    Args:
        text: Any text.
        code: One of `LANGUAGES`, or the two letters of another language that lingua knows, which is then told from
            these.

    Returns:
        Whether lingua finds this language likeliest.

    Raises:
        CaloraError: Lingua does not know the language.
    """
    check_language(code)
    return detect_language(text, code) == code


def check_language(code: str) -> None:
    """Refuse a language whose texts cannot be told from others.

    Raises:
        CaloraError: Lingua does not know it.
    """
    if code in LANGUAGES:
        return
    from lingua import Language

    known = sorted(language.iso_code_639_1.name.lower() for language in Language.all())
    if code not in known:
        raise CaloraError(f"unknown language {code!r}", f"languages: {', '.join(known)}")


@cache
def _detector(also: str | None) -> "LanguageDetector":
    from lingua import IsoCode639_1, LanguageDetectorBuilder

    codes = [getattr(IsoCode639_1, code.upper()) for code in (*LANGUAGES, *([also] if also else []))]
    return LanguageDetectorBuilder.from_iso_codes_639_1(*codes).build()
