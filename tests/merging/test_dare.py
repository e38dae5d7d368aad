from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calora.adapter import Adapter
from calora.merging import dare, dare_ties, linear_product, ties
from tests.conftest import random_adapter
from tests.merging.helpers import SHAPES, Q, assert_same, dense, several


@pytest.mark.parametrize("merge", [dare, dare_ties])
def test_the_order_of_the_modules_changes_nothing(merge: Any) -> None:
    adapters = several(0, 2)
    turned = [Adapter(dict(reversed(adapter.modules.items())), adapter.card) for adapter in adapters]
    expected = merge(adapters)
    for module, update in merge(turned).modules.items():
        assert np.array_equal(update, expected.modules[module])
    alone = merge([Adapter({Q: adapter.modules[Q]}, adapter.card) for adapter in adapters])
    assert np.array_equal(alone.modules[Q], expected.modules[Q])


@given(seed=st.integers(0, 1000), density=st.sampled_from([0.1, 0.5, 0.9]))
def test_an_entry_is_dropped_or_rescaled(seed: int, density: float) -> None:
    adapter = random_adapter(SHAPES, seed)
    dropped = dare([adapter], density=density, seed=seed).modules
    for module, update in dense(adapter).items():
        scaled = update / np.float32(density)
        assert np.all((dropped[module] == 0) | np.isclose(dropped[module], scaled, rtol=1e-5))


@pytest.mark.parametrize("density", [0.25, 0.5, 0.9])
def test_the_mean_of_many_seeds_is_the_weighted_sum(density: float) -> None:
    adapters, weights, draws = several(0, 2), [0.5, -1.5], 1000
    mean = np.mean([dare(adapters, weights, density=density, seed=seed).modules[Q] for seed in range(draws)], axis=0)
    squares = sum((w * dense(adapter)[Q]) ** 2 for w, adapter in zip(weights, adapters, strict=True))
    deviation = np.sqrt(squares * (1 - density) / density / draws)
    assert np.all(np.abs(mean - dense(linear_product(adapters, weights))[Q]) < 4.5 * deviation + 1e-6)


def test_seed_adapter_and_module_each_have_their_own_draw() -> None:
    """Equal updates throughout, so that equal results would be equal draws."""
    shapes = {f"layers.{layer}.q_proj": (16, 16) for layer in (0, 1)}
    first, second = (random_adapter(shapes, 0, name=name) for name in ("summary", "reply"))
    q, other = shapes
    draws = [
        dare([Adapter({module: first.modules[q]}, adapter.card)], seed=seed).modules[module] != 0
        for adapter, module, seed in ((first, q, 0), (second, q, 0), (first, other, 0), (first, q, 1))
    ]
    for place, draw in enumerate(draws):
        assert all(0.3 < (draw == later).mean() < 0.7 for later in draws[place + 1 :])


@pytest.mark.parametrize("name", [None, "summary"])
def test_adapters_of_one_name_or_of_none_have_their_own_draws(name: str | None) -> None:
    adapter = random_adapter({Q: (16, 16)}, name=name)
    both = dare([adapter, adapter]).modules[Q]
    ones = np.isclose(both, dense(adapter)[Q] * 2, rtol=1e-5).mean()  # kept in one of the two
    assert 0.35 < ones < 0.65


def test_the_order_of_adapters_of_one_name_or_of_none_changes_nothing() -> None:
    for name in (None, "summary"):
        adapters = [random_adapter({Q: (16, 16)}, seed, name=name) for seed in (0, 1)]
        assert_same(dare(adapters), dare(adapters[::-1]), 1e-6)


def test_the_draw_is_the_same_on_every_machine() -> None:
    kept = dare([random_adapter({Q: (2, 4)}, name="summary")], seed=7).modules[Q] != 0
    assert kept.astype(int).tolist() == [[1, 0, 0, 0], [1, 0, 1, 1]]


def test_keeping_all_is_the_merge_without_dare() -> None:
    adapters, weights = several(0, 3), [0.5, 1.0, -2.0]
    assert_same(dare(adapters, weights, density=1.0), linear_product(adapters, weights))
    assert_same(dare_ties(adapters, weights, density=1.0), ties(adapters, weights, density=1.0))
