"""Masking: taking the speakers' names out of a text, so that copying them earns nothing."""

import re
import unicodedata
from collections.abc import Sequence


def mask_names(text: str, names: Sequence[str]) -> str:
    """Delete names from a text.

    A name goes where it stands as a whole word in the same case, with the possessive 's behind it. It is deleted
    rather than replaced, since a placeholder common to answer and reference would earn credit again. Inflected names
    (the German genitive "Anas") stay.

    Args:
        text: Any text.
        names: The names; a longer one is taken before a shorter one that it contains.

    Returns:
        The text in Unicode form NFC without the names, each run of white space made one space.
    """
    text = unicodedata.normalize("NFC", text)
    # Without NFC, "Jose" would be found as a whole word in a decomposed "José".
    wanted = sorted({unicodedata.normalize("NFC", name) for name in names if name.strip()}, key=len, reverse=True)
    if wanted:
        alternatives = "|".join(re.escape(name) for name in wanted)
        text = re.sub(rf"(?<!\w)(?:{alternatives})(?!\w)(?:['\u2019]s(?!\w))?", " ", text)
    return " ".join(text.split())
