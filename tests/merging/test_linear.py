import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calora.adapter import Adapter, Factors
from calora.errors import CaloraError
from calora.merging import Merge, linear_factors, linear_product
from tests.conftest import assert_same_updates, random_adapter

SHAPES = {"layers.0.q_proj": (6, 5), "layers.0.up_proj": (8, 5)}
strengths = st.floats(-2, 2, width=32)
seeds = st.integers(0, 1000)


def several(seed: int, count: int, rank: int = 2) -> list[Adapter]:
    return [random_adapter(SHAPES, seed + index, rank) for index in range(count)]


def dense(adapter: Adapter, module: str = "layers.0.q_proj") -> Any:
    return adapter.modules[module].update()


@pytest.mark.parametrize("merge", [linear_factors, linear_product])
def test_one_adapter_with_strength_one_is_itself(merge: Any) -> None:
    adapter = random_adapter(SHAPES)
    for merged in (merge([adapter], [1.0]), merge([adapter])):
        for module, expected in adapter.modules.items():
            assert np.array_equal(merged.modules[module].a, expected.a)
            assert np.array_equal(merged.modules[module].b, expected.b)


@pytest.mark.parametrize("merge", [linear_factors, linear_product])
@given(seed=seeds, weights=st.lists(strengths, min_size=2, max_size=4), random=st.randoms())
def test_order_changes_nothing(merge: Any, seed: int, weights: list[float], random: Any) -> None:
    pairs = list(zip(several(seed, len(weights)), weights, strict=True))
    expected = merge([adapter for adapter, _ in pairs], [weight for _, weight in pairs])
    random.shuffle(pairs)
    assert_same_updates(merge([adapter for adapter, _ in pairs], [weight for _, weight in pairs]), expected)


@given(seed=seeds, weights=st.lists(strengths, min_size=1, max_size=4), rank=st.integers(1, 4))
def test_product_is_the_weighted_sum_of_the_updates(seed: int, weights: list[float], rank: int) -> None:
    adapters = [random_adapter(SHAPES, seed + index, rank + index) for index in range(len(weights))]
    merged = linear_product(adapters, weights)
    for module in SHAPES:
        expected = sum(w * dense(adapter, module) for w, adapter in zip(weights, adapters, strict=True))
        np.testing.assert_allclose(dense(merged, module), expected, atol=1e-5)
    assert merged.rank == sum(adapter.rank for adapter in adapters)


@given(seed=seeds, weights=st.tuples(strengths, strengths))
def test_product_does_not_see_the_gauge(seed: int, weights: tuple[float, float]) -> None:
    first, second = several(seed, 2, rank=3)
    random = np.random.default_rng(seed)
    turned = {}
    for module, pair in second.modules.items():
        gauge = random.normal(size=(3, 3)) + 4 * np.eye(3)
        turned[module] = Factors(
            (np.linalg.inv(gauge) @ pair.a).astype(np.float32), (pair.b @ gauge).astype(np.float32)
        )
    expected = linear_product([first, second], weights)
    assert_same_updates(linear_product([first, Adapter(turned)], weights), expected)


def test_factors_do_see_the_gauge() -> None:
    first, second = several(0, 2)
    turned = Adapter({module: Factors(-pair.a, -pair.b) for module, pair in second.modules.items()})
    difference = dense(linear_factors([first, turned])) - dense(linear_factors([first, second]))
    assert np.abs(difference).max() > 0.01


@given(seed=seeds, weights=st.tuples(strengths, strengths))
def test_factors_hold_the_squares_and_the_cross_terms(seed: int, weights: tuple[float, float]) -> None:
    adapters = several(seed, 2)
    merged = linear_factors(adapters, weights)
    for module in SHAPES:
        (a1, b1), (a2, b2) = ((adapter.modules[module].a, adapter.modules[module].b) for adapter in adapters)
        u, v = weights
        expected = u * u * b1 @ a1 + v * v * b2 @ a2 + u * v * (b1 @ a2 + b2 @ a1)
        np.testing.assert_allclose(dense(merged, module), expected, atol=1e-5)


def test_factors_take_the_mean_of_each_factor_unless_told() -> None:
    adapters = several(0, 3)
    merged = linear_factors(adapters)
    for module in SHAPES:
        pairs = [adapter.modules[module] for adapter in adapters]
        np.testing.assert_allclose(merged.modules[module].a, np.mean([pair.a for pair in pairs], axis=0), atol=1e-6)
        np.testing.assert_allclose(merged.modules[module].b, np.mean([pair.b for pair in pairs], axis=0), atol=1e-6)


def test_a_module_that_one_adapter_lacks_is_a_zero_update_there() -> None:
    q, up = SHAPES
    whole, part = random_adapter(SHAPES, 0), random_adapter({q: SHAPES[q]}, 1)
    for merged in (linear_product([whole, part], [0.5, 2.0]), linear_product([part, whole], [2.0, 0.5])):
        np.testing.assert_allclose(dense(merged, up), 0.5 * dense(whole, up), atol=1e-6)
        np.testing.assert_allclose(dense(merged, q), 0.5 * dense(whole, q) + 2 * dense(part, q), atol=1e-5)
    np.testing.assert_allclose(dense(linear_factors([whole, part]), up), 0.25 * dense(whole, up), atol=1e-6)


@pytest.mark.parametrize(
    ("merge", "adapters", "weights", "message"),
    [
        (
            linear_factors,
            [random_adapter(SHAPES, rank=2), random_adapter(SHAPES, rank=4)],
            None,
            r"q_proj has ranks [2, 4]",
        ),
        (linear_product, [], None, "nothing to merge"),
        (linear_factors, [], None, "nothing to merge"),
        (linear_product, several(0, 2), [1.0], "1 strengths for 2 adapters"),
        (linear_product, several(0, 2), [1.0, float("nan")], "not all finite"),
        (
            linear_product,
            [random_adapter(SHAPES), random_adapter({"layers.0.q_proj": (4, 5)}, name="reply")],
            None,
            "reply: layers.0.q_proj is (4, 5), the adapters before it have (6, 5)",
        ),
    ],
)
def test_what_does_not_fit_is_named(merge: Any, adapters: list[Adapter], weights: Any, message: str) -> None:
    with pytest.raises(CaloraError, match=re.escape(message)):
        merge(adapters, weights)


def test_a_merge_in_words_is_the_merge_itself() -> None:
    adapters = several(0, 2)
    assert_same_updates(Merge()(adapters), linear_factors(adapters))
    assert_same_updates(Merge(start="product", strengths=(0.5, 2))(adapters), linear_product(adapters, [0.5, 2]))
    assert str(Merge(start="product", strengths=(0.5, 2))) == "product 0.5/2"
    assert str(Merge()) == "factors"
