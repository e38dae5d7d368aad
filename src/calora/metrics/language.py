"""Language: whether an answer is in the language that was asked for."""

from functools import cache
from typing import TYPE_CHECKING

from calora.errors import CaloraError

if TYPE_CHECKING:
    from lingua import LanguageDetector

LANGUAGES = ("en", "es", "fr", "de")


def detect_language(text: str) -> str | None:
    """Name the language of a text, the likeliest of `LANGUAGES` according to lingua.

    A text in any fifth language is given one of the four all the same.

    Args:
        text: Any text; a sentence or more is safe, a few words are not.

    Returns:
        A two-letter code, or None for a text without words.
    """
    language = _detector().detect_language_of(text)
    return language.iso_code_639_1.name.lower() if language else None


def in_language(text: str, code: str) -> bool:
    """Tell whether a text is in a language; an empty one is in none.

    Args:
        text: Any text.
        code: One of `LANGUAGES`.

    Returns:
        Whether lingua finds this language likeliest.

    Raises:
        CaloraError: The code is not one of `LANGUAGES`.
    """
    if code not in LANGUAGES:
        raise CaloraError(f"Unknown language {code!r}.", f"Use one of {', '.join(LANGUAGES)}.")
    return detect_language(text) == code


@cache
def _detector() -> "LanguageDetector":
    from lingua import IsoCode639_1, LanguageDetectorBuilder

    codes = [getattr(IsoCode639_1, code.upper()) for code in LANGUAGES]
    return LanguageDetectorBuilder.from_iso_codes_639_1(*codes).build()
