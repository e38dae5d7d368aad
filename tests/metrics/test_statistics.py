from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from calora.metrics import (
    bootstrap_interval,
    holm,
    mean_score,
    paired_difference,
    share_of_gain,
    smallest_detectable,
)


@pytest.mark.parametrize("level", [0.95, 0.5])
def test_bootstrap_covers_the_true_mean_as_often_as_it_says(level: float) -> None:
    rng = np.random.default_rng(1)
    intervals = [
        bootstrap_interval(rng.normal(3.0, 2.0, size=50), seed=run, resamples=400, level=level) for run in range(500)
    ]
    # Two standard errors of 500 runs, and a little for the bootstrap's own narrowness at n = 50.
    assert np.mean([low <= 3.0 <= high for low, high in intervals]) == pytest.approx(level, abs=0.05)


def test_bootstrap_is_near_the_normal_interval_and_repeatable() -> None:
    values = np.random.default_rng(2).normal(size=200)
    low, high = bootstrap_interval(values)
    half = 1.96 * values.std() / np.sqrt(200)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.02)
    assert (low, high) == bootstrap_interval(values)
    assert (low, high) != bootstrap_interval(values, seed=1)


def test_seeds_are_averaged_and_dialogues_resampled() -> None:
    table = np.random.default_rng(3).normal(size=(3, 40))
    assert bootstrap_interval(table) == bootstrap_interval(table.mean(axis=0))
    # Seeds that differ much but alike on all dialogues leave nothing to resample.
    assert bootstrap_interval([[0.0] * 5, [100.0] * 5]) == (50.0, 50.0)
    assert paired_difference(table, table.mean(axis=0)).mean == pytest.approx(0)


def test_equal_inputs_do_not_differ() -> None:
    found = paired_difference([1.0, 5.0, 2.0], [1.0, 5.0, 2.0])
    assert (found.mean, found.low, found.high, found.p) == (0.0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize(
    "differences",
    [
        [1.0, 2.0, 3.0, 4.0, 5.0, -1.0, 2.0, 3.0],
        [0.1, 0.1, 0.1, -0.1, 0.1, 0.1],
        [100.0, 0.0, 0.0, 100.0, -100.0, 100.0],
    ],
)
def test_p_is_that_of_all_sign_flips(differences: list[float]) -> None:
    # In whole numbers, so that ties are ties.
    whole = [round(10 * value) for value in differences]
    flips = product(*([value, -value] for value in whole))
    sums = [abs(sum(flip)) for flip in flips]
    exact = sum(value >= abs(sum(whole)) for value in sums) / len(sums)
    # The standard error of 10 000 flips is at most 0.005.
    assert paired_difference(differences, [0.0] * len(whole)).p == pytest.approx(exact, abs=0.02)


def test_the_difference_is_first_minus_second_and_p_two_sided() -> None:
    rng = np.random.default_rng(4)
    base = rng.normal(size=60)
    better = base + 0.5 + 0.1 * rng.normal(size=60)
    found, reverse = paired_difference(better, base), paired_difference(base, better)
    assert 0.4 < found.low < found.mean < found.high < 0.6
    assert reverse.mean == -found.mean
    assert found.p == reverse.p == pytest.approx(1 / 10_001)


def test_p_is_below_five_percent_in_five_percent_of_null_cases() -> None:
    rng = np.random.default_rng(5)
    runs = [
        paired_difference(rng.normal(size=20), rng.normal(size=20), seed=run, resamples=400).p for run in range(500)
    ]
    assert np.mean([p <= 0.05 for p in runs]) == pytest.approx(0.05, abs=0.03)


def test_smallest_detectable_by_hand_and_by_power() -> None:
    assert smallest_detectable([1.0, 3.0], [0.0, 0.0]) == pytest.approx(2.8)
    noise = np.random.default_rng(6).normal(size=(2000, 50))
    effect = smallest_detectable(noise[0] / noise[0].std(ddof=1), np.zeros(50))
    tests = (noise + effect).mean(axis=1) * np.sqrt(50)
    assert np.mean(np.abs(tests) > 1.96) == pytest.approx(0.8, abs=0.03)


def two_corpora(seed: int, shift: float = 0.0) -> NDArray[np.float64]:
    """Two compositions of other dialogues, 30 and 90, of different means; the first has 10 of the second's, too."""
    random = np.random.default_rng(seed)
    table = np.full((2, 110), np.nan)
    table[0, :30] = random.normal(20 + shift, 10, 30)
    table[1, 20:] = random.normal(60 + shift, 10, 90)
    return table


def test_compositions_of_other_dialogues_count_alike() -> None:
    table = two_corpora(0)
    means = [np.nanmean(row) for row in table]
    assert mean_score(table) == pytest.approx(sum(means) / 2)
    low, high = bootstrap_interval(table, resamples=4000)
    assert low < mean_score(table) < high
    # The width is that of the mean of two means, not that of scores which mix 20s and 60s.
    sds = [np.nanstd(row) / np.sqrt(np.sum(~np.isnan(row))) for row in table]
    assert high - low == pytest.approx(2 * 1.96 * np.hypot(*sds) / 2, rel=0.1)


def test_absent_dialogues_change_nothing_where_there_are_none() -> None:
    whole = np.random.default_rng(1).normal(50, 10, (3, 40))
    padded = np.hstack([whole, np.full((3, 5), np.nan)])
    assert bootstrap_interval(padded) == bootstrap_interval(whole)
    assert paired_difference(padded, padded[::-1] + 1) == paired_difference(whole, whole[::-1] + 1)


def test_differences_of_compositions_of_other_dialogues() -> None:
    base = two_corpora(2)
    noise = np.where(np.isnan(base), np.nan, np.random.default_rng(3).normal(0, 5, base.shape))
    found = paired_difference(base + 4 + noise, base, resamples=2000)
    assert found.mean == pytest.approx(4 + mean_score(noise))
    assert found.low < found.mean < found.high
    assert found.p < 0.001
    assert smallest_detectable(base + noise, base) == pytest.approx(2.8 * 5 * np.hypot(30**-0.5, 90**-0.5) / 2, rel=0.2)
    with pytest.raises(ValueError, match="lack other dialogues"):
        paired_difference(base, base[::-1])
    with pytest.raises(ValueError, match="lack other dialogues"):  # though what is left has one shape
        paired_difference([[1.0, np.nan, 3.0]], [[1.0, 2.0, np.nan]])


def test_p_is_uniform_where_compositions_of_other_dialogues_do_not_differ() -> None:
    values = [paired_difference(two_corpora(seed), two_corpora(seed + 1000), resamples=200).p for seed in range(200)]
    assert 0.02 < np.mean(np.array(values) < 0.05) < 0.09
    assert 0.4 < np.mean(values) < 0.6


def test_bad_values_are_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        bootstrap_interval([[1.0, 2.0], [float("nan"), float("nan")]])
    with pytest.raises(ValueError, match="shape"):
        bootstrap_interval([])
    with pytest.raises(ValueError, match="finite"):
        bootstrap_interval([1.0, float("nan")])
    with pytest.raises(ValueError, match="2 dialogues"):
        paired_difference([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="two dialogues"):
        smallest_detectable([1.0], [0.0])


def test_the_share_of_a_gain_is_a_quotient_of_means() -> None:
    random = np.random.default_rng(0)
    base = random.normal(20, 5, (3, 200))
    gain = random.normal(10, 4, 200)
    found = share_of_gain(base + 0.8 * gain, base + gain, base)
    assert found is not None
    share, low, high = found
    assert share == pytest.approx(0.8)
    assert low == pytest.approx(0.8) and high == pytest.approx(0.8)  # the same share in every dialogue
    noise = random.normal(0, 8, 200)
    noisy = share_of_gain(base + 0.8 * gain + noise - noise.mean(), base + gain, base)
    assert noisy is not None
    assert noisy[1] < 0.8 < noisy[2]
    assert noisy[2] - noisy[1] == pytest.approx(2 * 1.96 * 8 / np.sqrt(200) / 10, rel=0.25)


def test_a_share_of_what_may_be_nothing_is_none() -> None:
    random = np.random.default_rng(0)
    base = random.normal(20, 5, 50)
    assert share_of_gain(base, base + random.normal(0, 8, 50), base) is None


def test_holm_is_the_example_worked_by_hand() -> None:
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert found == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    assert list(found) == ["a", "b", "c", "d"]


def test_a_family_is_as_large_as_it_was_named() -> None:
    found = holm({"a": 0.01, "b": 0.03}, family=4)
    assert found == pytest.approx({"a": 0.04, "b": 0.09})
    assert holm({"a": 0.01, "b": 0.03}, family=1) == pytest.approx({"a": 0.02, "b": 0.03})


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_no_correction_and_bonferroni(values: list[float]) -> None:
    given_values = {str(index): value for index, value in enumerate(values)}
    for name, value in holm(given_values).items():
        assert given_values[name] <= value <= min(1, len(values) * given_values[name]) + 1e-12
    order = sorted(given_values, key=lambda name: given_values[name])
    adjusted = [holm(given_values)[name] for name in order]
    assert adjusted == sorted(adjusted)


def test_holm_refuses_what_is_no_probability() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm({"a": 1.5})


def test_p_flips_a_dialogues_own_difference_and_not_its_influence() -> None:
    base = np.full((2, 60), np.nan)
    base[0, :20] = base[1, 20:] = 50.0
    assert paired_difference(base + np.array([[30.0], [-24.0]]), base).p > 0.3


def test_flips_that_rounding_sets_apart_are_ties() -> None:
    assert paired_difference(np.array([1, 0, 1, 0, -2, -1, 2, 0]) * 100 / 3, np.zeros(8)).p > 0.9
