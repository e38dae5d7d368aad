"""Leave out entries of a matrix, by their size or at random, in place: an update may be as large as a weight."""

from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from calora.storage import Array

Gamma = Annotated[
    float, Field(ge=0, lt=1, description="the fraction of the largest entries that is left out, from 0 to below 1")
]
Rescale = Annotated[
    Literal["density", "l1", "none"],
    Field(description="what is kept is divided by the density, scaled to the l1 norm of the whole matrix, or left"),
]
Words = npt.NDArray[Any]
_ROWS = 32  # some temporary copies of so many rows are little beside an update


def trim(update: Array, density: float, gamma: float = 0.0) -> Array:
    """Keep the largest entries by magnitude behind those that are too large; the others become 0.

    Of n entries the largest n `gamma` go (rounded down), then the smallest, until n `density` (rounded down) are left;
    where there is no room for both, fewer of the largest go. Entries of one magnitude stay or go together.

    Args:
        update: [out, in], changed in place.
        density: Above 0 and at most 1, where nothing is left out.
        gamma: From 0 to below 1.

    Returns:
        The update itself.
    """
    keep = int(density * update.size)
    smallest = max(0, update.size - keep - int(gamma * update.size))
    if keep == update.size:
        return update
    if keep == 0:
        update[:] = 0
        return update
    magnitudes = np.abs(update).reshape(-1)
    largest = smallest + keep - 1
    magnitudes.partition(smallest if largest == update.size - 1 else [smallest, largest])
    least, most = magnitudes[smallest], magnitudes[largest] if largest < update.size - 1 else np.inf
    del magnitudes
    for rows in blocks(update):
        size = np.abs(rows)
        rows[(size < least) | (size > most)] = 0
    return update


def least_kept(updates: Callable[[], Iterator[Array]], density: float) -> float:
    """The magnitude of the smallest entry that is kept where several matrices are trimmed as one.

    Exact, and without holding them: the bits of a magnitude in float32 are ordered as the magnitude is, so counting the
    upper half of the bits finds the bin of the wanted rank, and counting the lower half within it the entry.

    Args:
        updates: Gives the matrices anew each time.
        density: The fraction of all their entries that is kept (rounded down), above 0 and at most 1.

    Returns:
        0 where all are kept, infinity where none is.
    """
    size = sum(update.size for update in updates())
    rank = size - int(density * size)
    if rank in (0, size):
        return 0.0 if rank == 0 else float("inf")
    upper, before = _bin((bits >> 16 for bits in _bits(updates)), rank)
    inside = ((bits & 0xFFFF)[bits >> 16 == upper] for bits in _bits(updates))
    lower, _ = _bin(inside, rank - before)
    return float(np.array(upper << 16 | lower, np.uint32).view(np.float32))


def _bits(updates: Callable[[], Iterator[Array]]) -> Iterator[Words]:
    for update in updates():
        for rows in blocks(update):
            yield np.abs(rows).view(np.uint32)


def _bin(halves: Iterator[Words], rank: int) -> tuple[int, int]:
    """The half word in which the entry of a rank (from 0, by size) lies, and how many entries have a smaller one."""
    counts = np.zeros(1 << 16, np.int64)
    for half in halves:
        counts += np.bincount(half.reshape(-1), minlength=1 << 16)
    upto = np.cumsum(counts)
    place = int(np.searchsorted(upto, rank, side="right"))
    return place, int(upto[place] - counts[place])


def zero_below(update: Array, least: float) -> Array:
    """Set entries of a smaller magnitude to 0, in place."""
    for rows in blocks(update):
        rows[np.abs(rows) < least] = 0
    return update


def drop(update: Array, density: float, generator: np.random.Generator, rescale: Rescale = "density") -> Array:
    """Keep each entry with probability `density` and scale it; the others become 0.

    Args:
        update: [out, in], changed in place.
        density: Above 0 and at most 1.
        generator: Draws row by row.
        rescale: How to scale.

    Returns:
        The update itself.
    """
    before = _l1(update) if rescale == "l1" else 0.0
    for rows in blocks(update):
        rows[generator.random(rows.shape, dtype=np.float32) >= density] = 0
    if rescale == "density":
        update /= np.float32(density)
    elif rescale == "l1" and (after := _l1(update)):
        update *= np.float32(before / after)
    return update


def _l1(matrix: Array) -> float:
    return float(sum(np.abs(rows).sum(dtype=np.float64) for rows in blocks(matrix)))


def blocks(matrix: Array) -> Iterator[Array]:
    """Some rows at a time, as views: what is computed from them stays small."""
    for start in range(0, len(matrix), _ROWS):
        yield matrix[start : start + _ROWS]
