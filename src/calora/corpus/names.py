"""First names for the placeholders: by gender, new ones in each epoch, never one that the record uses itself."""

import hashlib
import re
from collections.abc import Iterable

from calora.corpus.records import Record

FEMALE = tuple(
    """Adele Adriana Alice Amanda Amelia Anna Beatrice Bianca Camille Carla Caroline Cecilia Charlotte Chiara
    Daniela Diana Dorothea Elena Elisa Emilia Emma Erika Eva Fatima Fiona Frieda Gabriela Giulia Greta Hanna Helena
    Ines Ingrid Irene Isabel Jana Johanna Julia Karin Katja Lara Laura Leonie Lidia Linda Louise Lucia Magda Maria
    Marta Mathilde Mireia Monica Nadia Natalia Nora Olga Paula Petra Rebecca Renate Rita Rosalia Sabine Sandra Sara
    Silvia Sofia Sonia Susana Tamara Teresa Ulrike Valeria Vanessa Veronica Victoria Yvonne Zoe""".split()
)
MALE = tuple(
    """Adam Adrian Alberto Alfred Andreas Anton Arthur Bastian Benedikt Bernard Boris Bruno Carlos Cedric Christian
    Daniel David Diego Dominik Eduardo Emil Enrique Erik Ernesto Fabian Felipe Fernando Florian Francisco Frederic
    Gabriel Georg Gerard Gonzalo Gregor Gustavo Hannes Hector Henrik Hugo Ignacio Igor Ivan Jakob Javier Joaquin
    Jonas Jorge Julian Kevin Konrad Lorenzo Lucas Ludwig Manuel Marcel Marco Martin Mateo Matthias Maximilian
    Miguel Nicolas Niklas Oliver Oscar Otto Pablo Pascal Patrick Pedro Philipp Rafael Ramon Ricardo Robert
    Samuel Sebastian Sergio Simon Stefan Theo Thomas Tobias Ulrich Valentin Victor Vincent Walter Werner""".split()
)


def draw_names(record: Record, seed: int, epoch: int = 0) -> dict[str, str]:
    """Names for A and B, from the record's id, the seed and the epoch alone.

    They differ in their first letter, and neither occurs in the record.
    """
    taken = set(re.findall(r"\w+", " ".join(record.texts)))
    pools = {"f": FEMALE, "m": MALE}
    chosen: dict[str, str] = {}
    for speaker in ("A", "B"):
        initials = {name[0] for name in chosen.values()}
        pool = [
            name
            for name in pools[record.genders[speaker]]  # type: ignore[index]
            if name not in taken and name[0] not in initials
        ]
        chosen[speaker] = pool[_number((record.id, speaker, seed, epoch)) % len(pool)]
    return chosen


def _number(parts: Iterable[object]) -> int:
    text = "/".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
