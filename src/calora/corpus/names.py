"""First names for the placeholders: by gender, drawn anew for each epoch, never a word of the record."""

import hashlib
import re
from collections.abc import Iterable, Mapping

from calora.corpus.records import Record, Speaker

FEMALE = tuple(
    """Adele Alice Amanda Amelia Anna Beatrice Bianca Caroline Cecilia Charlotte Chiara Dorothea Elena Elisa
    Emma Eva Fatima Fiona Frieda Giulia Greta Ines Ingrid Irene Isabel Jana Julia Karin Katja Lara Laura
    Leonie Louise Lucia Maria Marta Mathilde Mireia Monica Nadia Natalia Nora Olga Petra Rebecca Renate
    Rosalia Sabine Sandra Sara Silvia Sofia Susana Tamara Teresa Ulrike Valeria Vanessa Veronica Yvonne Zoe""".split()
)
MALE = tuple(
    """Adam Adrian Alberto Alfred Andreas Anton Arthur Benedikt Boris Bruno Carlos Cedric Christian Daniel
    David Diego Dominik Eduardo Emil Enrique Erik Ernesto Fabian Felipe Fernando Florian Francisco Frederic
    Gabriel Georg Gerard Gonzalo Gregor Gustavo Hannes Hector Henrik Hugo Ignacio Igor Ivan Jakob Javier
    Joaquin Jonas Jorge Kevin Konrad Lorenzo Lucas Ludwig Manuel Marcel Mateo Matthias Maximilian Miguel
    Nicolas Niklas Oliver Oscar Otto Pablo Pascal Patrick Pedro Philipp Rafael Ramon Ricardo Robert Samuel
    Sebastian Sergio Simon Stefan Theo Thomas Tobias Ulrich Victor Vincent Walter""".split()
)

# Names that translators know: one that does not know a sentence's first word takes the second for its beginning, and
# Apertium writes "Adele Pide" where it writes "Anna pide".
KNOWN = tuple("Anna Tom Maria Peter Laura Paul Emma David Alice Robert Sara Daniel Julia Simon Monica Martin".split())


def draw_names(record: Record, seed: int, epoch: int = 0) -> dict[Speaker, str]:
    """Names for A and B, from the record's id, the seed and the epoch alone.

    They differ in their first letter, and neither occurs in the record.
    """
    taken = set(re.findall(r"\w+", " ".join(record.texts).casefold()))
    pools = {"f": FEMALE, "m": MALE}
    chosen: dict[Speaker, str] = {}
    speakers: tuple[Speaker, ...] = ("A", "B")
    for speaker in speakers:
        initials = {name[0] for name in chosen.values()}
        pool = [
            name for name in pools[record.genders[speaker]] if name.casefold() not in taken and name[0] not in initials
        ]
        chosen[speaker] = pool[_number((record.id, speaker, seed, epoch)) % len(pool)]
    return chosen


def stand_ins(text: str, names: Iterable[str]) -> dict[str, str]:
    """People's names for those in a text that are no words, such as `#Person1#`, for tools that know only words.

    Args:
        text: Any text.
        names: Some of them may be in it.

    Returns:
        Name to one that does not occur in the text; none for names of letters alone.
    """
    taken = set(re.findall(r"\w+", text.casefold()))
    free = (name for name in (*KNOWN, *MALE, *FEMALE) if name.casefold() not in taken)
    return {name: next(free) for name in names if name in text and not name.replace(" ", "").isalpha()}


def _number(parts: Iterable[object]) -> int:
    text = "/".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def rename(text: str, names: Mapping[str, str]) -> str:
    """Replace whole words, all at once, so that two names can change places.

    Args:
        text: Any text.
        names: The new word of each old one.
    """
    if not names:
        return text
    alternatives = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    return re.sub(rf"(?<!\w)(?:{alternatives})(?!\w)", lambda found: names[found[0]], text)
