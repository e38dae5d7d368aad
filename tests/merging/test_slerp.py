from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calora.adapter import Adapter, Factors
from calora.errors import CaloraError
from calora.merging import karcher, linear_product, slerp
from tests.conftest import random_adapter
from tests.merging.helpers import SHAPES, UP, Q, assert_same, dense, several

parts = st.floats(0, 1)


def long_vector(adapter: Adapter) -> Any:
    return np.concatenate([dense(adapter)[module].astype(np.float64).ravel() for module in SHAPES])


@given(
    seed=st.integers(0, 1000),
    t=parts,
    strengths=st.tuples(st.floats(0.25, 2, width=32), st.floats(0.25, 2, width=32) | st.floats(-2, -0.25, width=32)),
)
def test_it_is_slerp_of_the_long_vectors(seed: int, t: float, strengths: tuple[float, float]) -> None:
    adapters = [random_adapter(SHAPES, seed, rank=2), random_adapter(SHAPES, seed + 1, rank=3)]
    first, second = (w * long_vector(adapter) for w, adapter in zip(strengths, adapters, strict=True))
    theta = np.arccos(first @ second / (np.linalg.norm(first) * np.linalg.norm(second)))
    expected = (np.sin((1 - t) * theta) * first + np.sin(t * theta) * second) / np.sin(theta)
    merged = slerp(adapters, strengths, t=t)
    np.testing.assert_allclose(long_vector(merged), expected, atol=1e-5)
    assert merged.rank == 5


@given(seed=st.integers(0, 1000), t=parts)
def test_from_the_other_end_it_is_the_same(seed: int, t: float) -> None:
    adapters = several(seed, 2)
    assert_same(slerp(adapters, t=t), slerp(adapters[::-1], t=1 - t))


def test_its_ends_are_the_adapters() -> None:
    adapters = several(0, 2)
    assert_same(slerp(adapters, t=0), adapters[0])
    assert_same(slerp(adapters, t=1), adapters[1])


@given(t=parts)
def test_between_orthogonal_updates_of_one_norm_the_norm_stays(t: float) -> None:
    q, up = (random_adapter({module: SHAPES[module]}) for module in (Q, UP))
    strengths = [1 / q.norm(), 1 / up.norm()]
    assert slerp([q, up], strengths, t=t).norm() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("scale", [1.0, 3.0, -1.0])
def test_between_parallel_updates_it_is_a_line(scale: float) -> None:
    adapter = random_adapter(SHAPES)
    other = Adapter({module: Factors(pair.a, np.float32(scale) * pair.b) for module, pair in adapter.modules.items()})
    assert_same(slerp([adapter, other], t=0.25), linear_product([adapter], [0.75 + 0.25 * scale]))


def test_to_a_zero_update_it_is_a_line() -> None:
    adapters = several(0, 2)
    assert_same(slerp(adapters, [2.0, 0.0], t=0.25), linear_product(adapters[:1], [1.5]))


@pytest.mark.parametrize("count", [1, 3])
def test_it_is_between_two(count: int) -> None:
    with pytest.raises(CaloraError, match=f"between two adapters, not {count}") as caught:
        slerp(several(0, count))
    assert caught.value.hint == "merge more of them with karcher, product or ties"


def test_it_does_not_leave_the_arc() -> None:
    with pytest.raises(CaloraError, match=r"the slerp merge: t = 1.5"):
        slerp(several(0, 2), t=1.5)


@given(seed=st.integers(0, 100))
def test_the_karcher_mean_of_two_of_one_length_is_slerp_halfway(seed: int) -> None:
    first, second = several(seed, 2)
    longer = Adapter({module: pair.scaled(first.norm() / second.norm()) for module, pair in second.modules.items()})
    assert_same(karcher([first, longer]), slerp([first, longer], t=0.5), 1e-4)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_no_direction_nearby_is_nearer_to_all_than_the_karcher_mean(count: int) -> None:
    adapters = several(0, count)

    def flat(adapter: Any) -> Any:
        return np.concatenate([update.reshape(-1) for update in dense(adapter).values()]).astype(np.float64)

    units = [flat(adapter) / np.linalg.norm(flat(adapter)) for adapter in adapters]
    mean = flat(karcher(adapters))
    assert np.linalg.norm(mean) == pytest.approx(np.mean([adapter.norm() for adapter in adapters]), rel=1e-4)

    def squares(direction: Any) -> float:
        unit = direction / np.linalg.norm(direction)
        return float(sum(np.arccos(np.clip(unit @ other, -1, 1)) ** 2 for other in units))

    random = np.random.default_rng(0)
    least = squares(mean)
    for other in (*units, *random.normal(size=(20, mean.size))):
        step = 0.05 * np.linalg.norm(mean) * other / np.linalg.norm(other)
        assert squares(mean + step) > least
        assert squares(mean - step) > least


def test_opposite_updates_have_no_mean_and_the_first_is_taken() -> None:
    (first,) = several(0, 1)
    opposite = Adapter({module: pair.scaled(-1.0) for module, pair in first.modules.items()})
    assert_same(karcher([first, opposite]), first, 1e-4)
    assert_same(karcher([first, opposite], [1.0, -1.0]), first, 1e-4)  # turned back, both are the first
