import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calora.adapter import Adapter
from calora.backbone import Backbone
from calora.merging import ties, truncated
from calora.merging.sparse import least_kept, trim
from calora.merging.ties import disjoint_mean
from tests.conftest import random_adapter
from tests.merging.helpers import SHAPES, Q, assert_same, dense, peft_weighted, several

densities = st.sampled_from([0.1, 0.2, 0.5, 0.75, 1.0])


def by_hand(updates: Sequence[Any], weights: Sequence[float], density: float, sign: str) -> Any:
    """TIES as its words say, place by place."""
    places = list(np.ndindex(updates[0].shape))
    kept = []
    for update in updates:
        ranked = sorted(places, key=lambda place: -abs(update[place]))
        kept.append(set(ranked[: int(density * len(places))]))
    merged = np.zeros(updates[0].shape)
    for place in places:
        voters = [
            (w, float(update[place])) for w, update, own in zip(weights, updates, kept, strict=True) if place in own
        ]
        votes = [value if sign == "total" else np.sign(value) for _, value in voters]
        elected = 1 if sum(votes) >= 0 else -1
        winners = [w * value for w, value in voters if np.sign(value) == elected]
        merged[place] = np.mean(winners) if winners else 0
    return merged


@given(
    seed=st.integers(0, 1000),
    weights=st.lists(st.floats(0.25, 2, width=32) | st.floats(-2, -0.25, width=32), min_size=1, max_size=4),
    density=densities,
    sign=st.sampled_from(["total", "frequency"]),
)
def test_it_is_what_its_words_say(seed: int, weights: list[float], density: float, sign: Any) -> None:
    adapters = several(seed, len(weights))
    merged = ties(adapters, weights, density=density, sign=sign)
    for module in SHAPES:
        expected = by_hand([dense(adapter)[module] for adapter in adapters], weights, density, sign)
        np.testing.assert_allclose(merged.modules[module], expected, atol=1e-5)


@given(seed=st.integers(0, 1000), density=densities)
def test_trimming_keeps_the_largest_and_no_others(seed: int, density: float) -> None:
    update = dense(random_adapter(SHAPES, seed))[Q]
    trimmed = trim(update.copy(), density)
    kept = trimmed != 0
    assert kept.sum() == int(density * update.size)
    assert np.array_equal(trimmed[kept], update[kept])
    if not kept.all():
        assert np.abs(update[kept]).min() > np.abs(update[~kept]).max()


def test_a_density_of_less_than_one_entry_keeps_none() -> None:
    assert not trim(np.ones((2, 2), np.float32), 0.1).any()


@given(seed=st.integers(0, 1000), density=densities, gamma=st.sampled_from([0.0, 0.1, 0.3]))
def test_the_largest_go_first_where_they_are_to_go(seed: int, density: float, gamma: float) -> None:
    update = dense(random_adapter(SHAPES, seed))[Q]
    kept = trim(update.copy(), density, gamma) != 0
    top = min(int(gamma * update.size), update.size - int(density * update.size))
    assert kept.sum() == int(density * update.size)
    order = np.sort(np.abs(update), axis=None)[::-1]
    if kept.any():
        assert np.abs(update[kept]).max() == order[top]


@given(seed=st.integers(0, 1000), density=densities)
def test_a_whole_adapter_is_trimmed_as_one_vector(seed: int, density: float) -> None:
    adapter = random_adapter(SHAPES, seed)
    entries = np.concatenate([update.reshape(-1) for update in dense(adapter).values()])
    kept = int(density * entries.size)
    twice = [(place, update) for place in (0, 1) for update in dense(adapter).values()]
    least = least_kept(lambda: iter(twice), {0: density, 1: 0.001})
    assert least[0] == (np.sort(np.abs(entries))[-kept] if kept < entries.size else 0)
    assert np.isinf(least[1])
    merged = ties([adapter], density=density, scope="adapter")
    assert sum(np.count_nonzero(update) for update in merged.modules.values()) == kept


def test_the_sign_is_elected_by_the_sum_or_by_the_number() -> None:
    updates = [(1.0, np.array([[value]], np.float32)) for value in (3.0, -1.0, -1.5)]
    assert disjoint_mean(updates, "total") == 3.0
    assert disjoint_mean(updates, "frequency") == -1.25
    assert disjoint_mean(updates[:2], "frequency") == 3.0  # a draw elects plus


@pytest.mark.parametrize("strengths", [(0.1, -0.3, 0.2), (0.1, 0.2, -0.3)])
def test_agreeing_strengths_that_cancel_divide_by_nothing(strengths: Sequence[float]) -> None:
    """mergekit divides by what rounding leaves of them, 1e-8, and has entries of 1e7."""
    values = [math.copysign(1.0, strength) for strength in strengths]
    updates = [(w, np.array([[value]], np.float32)) for w, value in zip(strengths, values, strict=True)]
    found = disjoint_mean(updates, "total", "weighted", "strength")
    np.testing.assert_allclose(found, 0.6, rtol=1e-6)


def test_equal_updates_are_their_own_merge() -> None:
    adapter = random_adapter(SHAPES)
    assert_same(ties([adapter, adapter, adapter], density=1.0), adapter)


@pytest.mark.parametrize("sign", ["total", "frequency"])
def test_pefts_ties_svd_is_ours_truncated(llama: Backbone, sign: Any) -> None:
    adapters: list[Adapter] = [random_adapter(llama, seed) for seed in (1, 2, 3)]
    weights = (1.0, 0.5, -0.75)
    expected = peft_weighted(llama, adapters, weights, "ties_svd", density=0.25, svd_rank=8, majority_sign_method=sign)
    cut, errors = truncated(ties(adapters, weights, density=0.25, sign=sign), rank=8)
    assert_same(cut, expected, tolerance=1e-4)  # two SVDs of one float32 matrix
    assert min(errors.values()) > 0.05
