"""Edits: small changes of a text that make it wrong, in four languages.

They are made by pattern, without a parser: the grammar may suffer, and a text without a foothold is left out.
"""

import re

_DAYS = {
    "en": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
    "es": "lunes martes miércoles jueves viernes sábado domingo",
    "fr": "lundi mardi mercredi jeudi vendredi samedi dimanche",
    "de": "Montag Dienstag Mittwoch Donnerstag Freitag Samstag Sonntag",
}
# Without one, which is an article in three of them.
_NUMBERS = {
    "en": "two three four five six seven eight nine ten eleven twelve twenty thirty forty fifty",
    "es": "dos tres cuatro cinco seis siete ocho nueve diez once doce veinte treinta cuarenta cincuenta",
    "fr": "deux trois quatre cinq six sept huit neuf dix onze douze vingt trente quarante cinquante",
    "de": "zwei drei vier fünf sechs sieben acht neun zehn elf zwölf zwanzig dreißig vierzig fünfzig",
}

# The first rule that finds something is applied once: taking a negation out comes before putting one in.
_NEGATIONS: dict[str, tuple[tuple[str, str], ...]] = {
    "en": (
        (r"\bcan(?:not|['\u2019]t)\b", "can"),
        (r"\bwon['\u2019]t\b", "will"),
        (r"n['\u2019]t\b", ""),
        (r"\bnot ", ""),
        (r"\bnever\b", "always"),
        (r"\b(is|are|was|were|will|can|could|should|would|must|may|shall|has|have|had)\b", r"\1 not"),
        (r"\b(I|you|he|she|it|we|they)(['\u2019](?:ll|s|re|m|d|ve))\b", r"\1\2 not"),
        (r"\bto (?=[a-z]+\b)", "not to "),
        (r"\b(and|but|so|because) ", r"\1 not "),
    ),
    "es": (
        (r"\b[Nn]o (?=\w)", ""),
        (r"\bnunca\b", "siempre"),
        (r"\b(que|y) (?=\w)", r"\1 no "),
        (r"\b(es|está|son|están|ha|han|puede|pueden|va|van|quiere|tiene|hay|voy|he|tengo|puedo)\b", r"no \1"),
        (r", (?=\w)", ", no "),
    ),
    "fr": (
        (r"\b(?:ne |n['\u2019])(\w+) (?:pas|plus|jamais)\b", r"\1"),
        (r"\b(?:ne |n['\u2019])(\w+) aucun(?=e?\b)", r"\1 un"),
        (r"(?<!['\u2019])\b(est|a|ont|ai|avons|avez)\b", r"n'\1 pas"),
        (r"\b(sont|peut|peuvent|va|vais|vont|veut|veulent|doit|sera|suis|peux|dois|faut|fait)\b", r"ne \1 pas"),
        (r"\b(?:de |d['\u2019])(?=\w+(?:er|ir|re)\b)", "de ne pas "),
        (r"\b(et|mais) ", r"\1 pas "),
    ),
    "de": (
        (r"\bnicht ", ""),
        (r"\bkein", "ein"),
        (r"\bKein", "Ein"),
        (r"\bnie\b", "immer"),
        (r"\b(ist|sind|war|hat|haben|habe|wird|werden|werde|will|kann|soll|muss|darf|möchte|bin)\b", r"\1 nicht"),
        (r"(?<=\w)(?=[.!?]$)", " nicht"),
    ),
}


def change_detail(text: str, language: str) -> str | None:
    """Change the first weekday, number word or figure to the one that follows.

    Args:
        text: Any text.
        language: One of en, es, fr, de.

    Returns:
        The changed text; None where there is nothing to change, or the language is another.
    """
    if language not in _DAYS:
        return None
    following = _following(_DAYS[language]) | _following(_NUMBERS[language])
    words = "|".join(following)
    by_letters = {word.casefold(): other for word, other in following.items()}

    def changed(found: re.Match[str]) -> str:
        word = found[0]
        if word.isdigit():
            return str(int(word) + 1)
        other = by_letters[word.casefold()]
        return other.lower() if word.islower() else other.upper() if word.isupper() else other.capitalize()

    edited, count = re.subn(rf"\b(?:\d+|{words})\b", changed, text, count=1, flags=re.IGNORECASE)
    return edited if count else None


def negate(text: str, language: str) -> str | None:
    """Take a negation out of a text, or put one in where it has none.

    Args:
        text: Any text.
        language: One of en, es, fr, de.

    Returns:
        The changed text; None where no rule fits, or the language is another.
    """
    for pattern, replacement in _NEGATIONS.get(language, ()):
        edited, count = re.subn(pattern, replacement, text, count=1)
        if count:
            return edited
    return None


def _following(words: str) -> dict[str, str]:
    """Each word with the next one, the last with the first."""
    one = words.split()
    return dict(zip(one, [*one[1:], one[0]], strict=True))
