"""Statistics: how far a mean over dialogues, or a difference of two, is to be trusted.

Scores come as one value per dialogue, or as a table [repeats, dialogues]: seeds, or compositions asked of the same
dialogues, or both. A table is averaged over its repeats first and the dialogues are what is resampled, since answers to
one dialogue are not independent: the results speak of other dialogues with these seeds and compositions.
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


def bootstrap_interval(
    values: ArrayLike, *, seed: int = 0, resamples: int = 10_000, level: float = 0.95
) -> tuple[float, float]:
    """Give the percentile bootstrap interval of the mean over dialogues (Efron and Tibshirani 1993, chapter 13).

    Args:
        values: One score per dialogue, or [seeds, dialogues], averaged over the seeds before dialogues are resampled.
        seed: Of the random draws; the same seed gives the same interval.
        resamples: Number of draws.
        level: Share of cases, between 0 and 1, in which the interval should hold the true mean.

    Returns:
        Lower and upper end, in the unit of the values.

    Raises:
        ValueError: No values, values that are not finite, or neither one nor two dimensions.
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
        a: One score per dialogue, or [seeds, dialogues], averaged over the seeds before anything else.
        b: The same for the other approach; it may have another number of seeds.
        seed: Of the random draws.
        resamples: Number of bootstrap draws and of sign flips.

    Returns:
        The mean of a - b, its 95 % interval and the p-value.

    Raises:
        ValueError: As `bootstrap_interval`, or another number of dialogues in a than in b.
    """
    differences = _differences(a, b)
    mean = float(differences.mean())
    low, high = bootstrap_interval(differences, seed=seed, resamples=resamples)
    signs = 2.0 * np.random.default_rng(seed).integers(2, size=(resamples, differences.size)) - 1.0
    # Flips that only rounding sets apart from the one found must count as ties.
    rounding = 1e-9 * float(np.abs(differences).mean())
    extreme = np.count_nonzero(np.abs(signs @ differences / differences.size) >= abs(mean) - rounding)
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
    kept, gained = _differences(part, base), _differences(whole, base)
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
    differences = _differences(a, b)
    if differences.size < 2:
        raise ValueError("At least two dialogues are needed to know how much they vary.")
    return float((1.96 + 0.84) * differences.std(ddof=1) / np.sqrt(differences.size))


def _per_dialogue(values: ArrayLike) -> NDArray[np.float64]:
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim not in (1, 2) or scores.size == 0:
        raise ValueError(f"Expected scores [dialogues] or [seeds, dialogues], not empty; got shape {scores.shape}.")
    if not np.isfinite(scores).all():
        raise ValueError("Some scores are not finite.")
    return scores if scores.ndim == 1 else np.asarray(scores.mean(axis=0), dtype=np.float64)


def _differences(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    first, second = _per_dialogue(a), _per_dialogue(b)
    if first.shape != second.shape:
        raise ValueError(f"{first.size} dialogues on one side and {second.size} on the other.")
    return first - second
