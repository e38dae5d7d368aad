"""A sheet to read: a sample of what teachers made, and of what was left out and why."""

import random
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from calora.corpus.composing import SHEET, entries
from calora.storage import write_text

Item = TypeVar("Item")


def write_sheet(out: Path, count: int = 20, seed: int = 0) -> Path:
    """Write a Markdown page with some records and some answers that were left out, drawn by a seed.

    Args:
        out: A folder of composed data.
        count: Of each.
        seed: Of the draw.

    Returns:
        The page.
    """
    kept = (entry.record for entry in entries(out) if entry.record is not None)
    lines = ["# A sample of the composed data", "", "## Kept", ""]
    for record in _some(kept, count, seed):
        for name, made in record.made.items():
            field, _, key = name.partition(".")
            lines += [
                f"**{record.id}**, {record.split}, {name} by {made['teacher']}",
                "",
                f"- from: {record.targets[field]['en']}",
                f"- made: {record.targets[field][key]}",
                "",
            ]
    lines += ["## Left out", ""]
    dropped = (
        (entry.id, name, reason, answer) for entry in entries(out) for name, (reason, answer) in entry.dropped.items()
    )
    for identity, name, reason, answer in _some(dropped, count, seed):
        lines += [f"**{identity}**, {name}: {reason}", "", f"- made: {answer or '(nothing)'}", ""]
    write_text(out / SHEET, "\n".join(lines))
    return out / SHEET


def _some(items: Iterable[Item], count: int, seed: int) -> list[Item]:
    """So many items, each as likely as any other, without holding all."""
    drawn = random.Random(seed)
    chosen: list[Item] = []
    for number, item in enumerate(items):
        if number < count:
            chosen.append(item)
        elif (place := drawn.randrange(number + 1)) < count:
            chosen[place] = item
    return chosen
