"""Leave out entries of a matrix, by their size or at random, in place: an update may be as large as a weight."""

from collections.abc import Callable, Iterator, Mapping
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


def least_kept(updates: Callable[[], Iterator[tuple[int, Array]]], densities: Mapping[int, float]) -> dict[int, float]:
    """The magnitude of the smallest entry that is kept of each of several adapters, whose matrices are trimmed as one.

    Exact, and without holding them: the bits of a magnitude in float32 are ordered as the magnitude is, so counting the
    upper half of the bits finds the bin of the wanted rank, and counting the lower half within it the entry.

    Args:
        updates: Gives pairs of an adapter's place and one of its matrices, anew each time; it is asked twice.
        densities: An adapter's place to the fraction of all its entries that is kept (rounded down), above 0 and at
            most 1.

    Returns:
        An adapter's place to that magnitude: 0 where all entries are kept, infinity where none is.
    """
    upper = {place: np.zeros(1 << 16, np.int64) for place in densities}
    for place, bits in _bits(updates):
        upper[place] += _counted(bits >> 16)
    ranks = {place: int(counts.sum()) - int(densities[place] * int(counts.sum())) for place, counts in upper.items()}
    least = {place: 0.0 if rank == 0 else float("inf") for place, rank in ranks.items()}
    bins = {place: _bin(upper[place], rank) for place, rank in ranks.items() if 0 < rank < upper[place].sum()}
    lower = {place: np.zeros(1 << 16, np.int64) for place in bins}
    for place, bits in _bits(updates):
        if place in bins:
            lower[place] += _counted((bits & 0xFFFF)[bits >> 16 == bins[place][0]])
    for place, (word, before) in bins.items():
        half, _ = _bin(lower[place], ranks[place] - before)
        least[place] = float(np.array(word << 16 | half, np.uint32).view(np.float32))
    return least


def _bits(updates: Callable[[], Iterator[tuple[int, Array]]]) -> Iterator[tuple[int, Words]]:
    for place, update in updates():
        for rows in blocks(update):
            yield place, np.abs(rows).view(np.uint32)


def _counted(halves: Words) -> Words:
    """How often each half word is there."""
    return np.bincount(halves.reshape(-1), minlength=1 << 16)


def _bin(counts: Words, rank: int) -> tuple[int, int]:
    """The half word in which the entry of a rank (from 0, by size) lies, and how many entries have a smaller one."""
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
