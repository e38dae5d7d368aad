"""Statistics: how far a mean over dialogues, or a difference of two, is to be trusted.

Scores come as one value per dialogue, or as a table [repeats, dialogues]: seeds, or compositions asked of the same
dialogues, or both. A table is averaged over its repeats first and the dialogues are what is resampled, since answers to
one dialogue are not independent: the results speak of other dialogues with these seeds and compositions.

Where compositions have different dialogues, a table has NaN where a composition lacks one. Its mean is the mean over
compositions of their own means, and a dialogue counts by what it adds to that.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Difference:
    """The mean paired difference of two approaches.

    Attributes:
        mean: Mean over dialogues of first minus second.
        low: Lower end of its 95 % bootstrap interval.
        high: Upper end.
        p: Two-sided p-value of the paired sign-flip permutation test, above 0 and at most 1.
    """

    mean: float
    low: float
    high: float
    p: float


def mean_score(values: ArrayLike) -> float:
    """Give the mean over dialogues, or over the rows of a table of the mean over the dialogues that each has.

    Args:
        values: One score per dialogue, or [repeats, dialogues] with NaN where a row lacks a dialogue.

    Raises:
        ValueError: As `bootstrap_interval`.
    """
    return float(np.nanmean(_table(values), axis=1).mean())


def bootstrap_interval(
    values: ArrayLike, *, seed: int = 0, resamples: int = 10_000, level: float = 0.95
) -> tuple[float, float]:
    """Give the percentile bootstrap interval of the mean over dialogues (Efron and Tibshirani 1993, chapter 13).

    Args:
        values: One score per dialogue, or [repeats, dialogues], averaged over the repeats before dialogues are
            resampled; with NaN where a repeat lacks a dialogue, each dialogue counts by its influence on `mean_score`
            (the linearisation of a mean of ratios, ibid., chapter 21).
        seed: Of the random draws; the same seed gives the same interval.
        resamples: Number of draws.
        level: Share of cases, between 0 and 1, in which the interval should hold the true mean.

    Returns:
        Lower and upper end, in the unit of the values.

    Raises:
        ValueError: No values, a row of a table without any, infinite ones, or neither one nor two dimensions.
    """
    scores = _per_dialogue(values)
    drawn = np.random.default_rng(seed).integers(scores.size, size=(resamples, scores.size))
    low, high = np.quantile(scores[drawn].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired_difference(a: ArrayLike, b: ArrayLike, *, seed: int = 0, resamples: int = 10_000) -> Difference:
    """Compare two approaches on the same dialogues, in the same order.

    The p-value is the share of random sign flips of the differences whose mean is at least as far from 0 as the mean
    found, which itself counts as one flip (Phipson and Smyth 2010), so that it is never 0.

    Args:
        a: One score per dialogue, or [repeats, dialogues], averaged over the repeats before anything else.
        b: The same for the other approach; it may have another number of repeats, if both have every dialogue.
        seed: Of the random draws.
        resamples: Number of bootstrap draws and of sign flips.

    Returns:
        The mean of a - b, its 95 % interval and the p-value.

    Raises:
        ValueError: As `bootstrap_interval`, or other dialogues in a than in b.
    """
    differences, flipped = _differences(a, b)
    mean = float(differences.mean())
    low, high = bootstrap_interval(differences, seed=seed, resamples=resamples)
    signs = 2.0 * np.random.default_rng(seed).integers(2, size=(resamples, differences.size)) - 1.0
    # Flips that only rounding sets apart from the one found must count as ties.
    rounding = 1e-9 * float(np.abs(flipped).mean())
    extreme = np.count_nonzero(np.abs(signs @ flipped / flipped.size) >= abs(mean) - rounding)
    return Difference(mean, low, high, float((extreme + 1) / (resamples + 1)))


def share_of_gain(
    part: ArrayLike, whole: ArrayLike, base: ArrayLike, *, seed: int = 0, resamples: int = 10_000
) -> tuple[float, float, float] | None:
    """Give how much of one approach's gain another keeps: mean(part - base) / mean(whole - base).

    Args:
        part: Scores as for `paired_difference`.
        whole: Scores of the approach whose gain is 1.
        base: Scores of what both are compared with.
        seed: Of the random draws.
        resamples: Number of bootstrap draws of dialogues, each of the whole quotient.

    Returns:
        The share and its 95 % percentile interval; None where that of the gain goes down to 0,
        as a share of nothing says nothing.

    Raises:
        ValueError: As `paired_difference`.
    """
    (kept, _), (gained, _) = _differences(part, base), _differences(whole, base)
    if bootstrap_interval(gained, seed=seed, resamples=resamples)[0] <= 0:
        return None
    drawn = np.random.default_rng(seed).integers(gained.size, size=(resamples, gained.size))
    gains = gained[drawn].mean(axis=1)
    low, high = np.quantile(kept[drawn].mean(axis=1)[gains > 0] / gains[gains > 0], [0.025, 0.975])
    return float(kept.mean() / gained.mean()), float(low), float(high)


def holm(p_values: Mapping[str, float], family: int = 0) -> dict[str, float]:
    """Adjust the p-values of a family of tests so that the chance of any false alarm stays below the level (Holm 1979).

    The k-th smallest of m is multiplied by m - k + 1; none ends below one that was smaller, or above 1.

    Args:
        p_values: Name of the test to its p-value.
        family: How many tests the family has, named before any was made; the tests that are missing count as passed
            over. No fewer than there are p-values.

    Returns:
        Name to the adjusted p-value, in the same order.

    Raises:
        ValueError: A value is not between 0 and 1.
    """
    if not all(0 <= p <= 1 for p in p_values.values()):
        raise ValueError(f"p-values lie between 0 and 1, got {dict(p_values)}.")
    tests, adjusted, least = max(family, len(p_values)), {}, 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        least = max(least, min(1.0, (tests - rank) * p_values[name]))
        adjusted[name] = least
    return {name: adjusted[name] for name in p_values}


def smallest_detectable(a: ArrayLike, b: ArrayLike) -> float:
    """Give the smallest mean difference that so many dialogues show with 80 % power at two-sided 5 %.

    It is (1.96 + 0.84) sd / sqrt(n) of the n paired differences, the normal approximation.

    Args:
        a: Scores as for `paired_difference`.
        b: Scores of the other approach.

    Returns:
        At least 0, in the unit of the scores.

    Raises:
        ValueError: As `paired_difference`, or fewer than two dialogues.
    """
    differences, _ = _differences(a, b)
    if differences.size < 2:
        raise ValueError("At least two dialogues are needed to know how much they vary.")
    return float((1.96 + 0.84) * differences.std(ddof=1) / np.sqrt(differences.size))


def _table(values: ArrayLike) -> NDArray[np.float64]:
    """[repeats, dialogues]; dialogues that no repeat has are left out."""
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim not in (1, 2) or scores.size == 0:
        raise ValueError(f"Expected scores [dialogues] or [repeats, dialogues], not empty; got shape {scores.shape}.")
    table = np.atleast_2d(scores)
    absent = np.isnan(table)
    if np.isinf(table).any() or absent.all(axis=1).any() or (scores.ndim == 1 and absent.any()):
        raise ValueError("Some scores are not finite.")
    return table[:, ~absent.all(axis=0)]


def _present(values: ArrayLike) -> NDArray[np.bool_]:
    """Which dialogues some repeat has."""
    return np.asarray(~np.isnan(np.atleast_2d(np.asarray(values, dtype=np.float64))).all(axis=0))


def _per_dialogue(values: ArrayLike) -> NDArray[np.float64]:
    """What each dialogue adds to the mean: the mean of a column, or its influence where repeats lack dialogues."""
    table = _table(values)
    if not np.isnan(table).any():
        return np.asarray(table.mean(axis=0), dtype=np.float64)
    means = np.nanmean(table, axis=1, keepdims=True)
    return np.asarray(means.mean() + np.nansum(_shares(table) * (table - means), axis=0), dtype=np.float64)


def _shares(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """By what the scores are to be multiplied so that the mean over dialogues of their sums is `mean_score`."""
    repeats, dialogues = table.shape
    each = (~np.isnan(table)).sum(axis=1, keepdims=True)
    return np.broadcast_to(dialogues / (repeats * each), table.shape)


def _differences(a: ArrayLike, b: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What each dialogue adds to the mean difference, by influence and as a plain share; equal where none is absent.

    Under the null hypothesis it is the dialogue's own differences whose sign is random: the plain shares are flipped.
    """
    first, second = _table(a), _table(b)
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"{first.shape[1]} dialogues on one side and {second.shape[1]} on the other.")
    if not np.array_equal(_present(a), _present(b)):
        raise ValueError("The two sides lack other dialogues.")
    if not (np.isnan(first).any() or np.isnan(second).any()):
        differences = _per_dialogue(first) - _per_dialogue(second)
        return differences, differences
    if first.shape != second.shape or not np.array_equal(np.isnan(first), np.isnan(second)):
        raise ValueError("The two sides lack other dialogues.")
    table = first - second
    return _per_dialogue(table), np.asarray(np.nansum(_shares(table) * table, axis=0), dtype=np.float64)
