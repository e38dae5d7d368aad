from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calora.adapter import Adapter
from calora.attach import attached
from calora.backbone import Backbone
from calora.errors import CaloraError
from calora.merging import DenseUpdate, truncated
from tests.conftest import adapter_logits, assert_near, random_adapter
from tests.merging.helpers import SHAPES, UP, Q, assert_same, dense


def random_update(seed: int) -> DenseUpdate:
    random = np.random.default_rng(seed)
    return DenseUpdate({module: random.normal(size=shape).astype(np.float32) for module, shape in SHAPES.items()})


def opened(adapter: Adapter) -> DenseUpdate:
    return DenseUpdate(dense(adapter), adapter.card)


@given(seed=st.integers(0, 1000), rank=st.integers(1, 5))
def test_what_truncation_loses_is_the_tail_of_the_singular_values(seed: int, rank: int) -> None:
    update = random_update(seed)
    adapter, errors = truncated(update, rank=rank)
    for module, whole in update.modules.items():
        values = np.linalg.svd(whole.astype(np.float64), compute_uv=False)
        tail = np.sqrt(np.sum(values[rank:] ** 2) / np.sum(values**2))
        assert errors[module] == pytest.approx(tail, abs=1e-6)
        lost = np.linalg.norm(whole - dense(adapter)[module]) / np.linalg.norm(whole)
        assert errors[module] == pytest.approx(lost, abs=1e-6)
    assert adapter.rank == rank


def test_an_update_of_that_rank_or_less_comes_back_whole() -> None:
    adapter = random_adapter(SHAPES, rank=2, name="summary")
    for rank in (2, 4, 100):
        cut, errors = truncated(opened(adapter), rank=rank)
        assert_same(cut, adapter)
        assert cut.card == adapter.card
        assert max(errors.values()) < 1e-6
    assert cut.rank == 5  # of the full 6 x 5 and 8 x 5


def test_a_zero_update_is_truncated_without_error() -> None:
    zeros = DenseUpdate({Q: np.zeros((6, 5), np.float32)})
    cut, errors = truncated(zeros, rank=1)
    assert errors == {Q: 0.0}
    assert not dense(cut)[Q].any()


def test_norm_is_over_all_modules() -> None:
    adapter = random_adapter(SHAPES)
    assert opened(adapter).norm() == pytest.approx(adapter.norm(), rel=1e-6)
    assert DenseUpdate({Q: np.full((6, 5), 2, np.float32)}).norm() == pytest.approx(np.sqrt(30 * 4))


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ({}, "dense update has no modules"),
        ({UP: np.zeros(3, np.float32)}, r"layers.0.up_proj has the shape \(3,\)"),
        ({Q: np.full((6, 5), np.nan, np.float32)}, "layers.0.q_proj holds NaN or infinite values"),
    ],
)
def test_what_is_no_update_is_refused(modules: Any, message: str) -> None:
    with pytest.raises(CaloraError, match=message):
        DenseUpdate(modules)


@given(seed=st.integers(0, 1000), energy=st.floats(0.05, 1))
def test_the_least_rank_that_keeps_an_energy(seed: int, energy: float) -> None:
    update = random_update(seed)
    cut, errors = truncated(update, energy=energy)
    for module, pair in cut.modules.items():
        assert errors[module] ** 2 <= 1 - energy + 1e-5
        if pair.rank > 1:
            _, less = truncated(DenseUpdate({module: update.modules[module]}), rank=pair.rank - 1)
            assert less[module] ** 2 > 1 - energy - 1e-5


@pytest.mark.parametrize("slope", [0.0, 0.05, 1.0])
def test_a_large_update_is_cut_nearly_as_well_as_by_a_whole_svd(slope: float) -> None:
    random = np.random.default_rng(0)
    whole = (random.normal(size=(300, 260)) * np.exp(-slope * np.arange(260))).astype(np.float32)
    cut, errors = truncated(DenseUpdate({Q: whole}), rank=16)
    values = np.linalg.svd(whole.astype(np.float64), compute_uv=False)
    least = np.sqrt(np.sum(values[16:] ** 2) / np.sum(values**2))
    lost = np.linalg.norm(whole - dense(cut)[Q]) / np.linalg.norm(whole)
    assert lost == pytest.approx(least, rel=0.005, abs=1e-5)
    assert errors[Q] == pytest.approx(lost, rel=1e-3, abs=1e-3)


def test_there_is_no_rank_below_one() -> None:
    with pytest.raises(CaloraError, match="rank 0 is below 1"):
        truncated(random_update(0), rank=0)


def test_beside_the_weights_it_is_the_adapter_it_was_opened_from(llama: Backbone) -> None:
    adapter = random_adapter(llama, 1)
    with_update: Any = adapter_logits(llama, opened(adapter))
    assert_near(with_update, adapter_logits(llama, adapter))
    assert np.abs(with_update - adapter_logits(llama, None)).max() > 0.1


def test_a_dense_update_of_another_backbone_is_refused_by_name(llama: Backbone) -> None:
    module, shape = next(iter(llama.targets.items()))
    for modules, message in (
        (SHAPES, "has an update for layers.0.q_proj, which"),
        ({module: (shape[0] + 1, shape[1])}, rf"{module} is \(33, 32\), in .* it is \(32, 32\)"),
    ):
        with pytest.raises(CaloraError, match=message), attached(llama, opened(random_adapter(modules))):
            pass


@pytest.mark.parametrize("given", [{}, {"rank": 2, "energy": 0.5}, {"energy": 0.0}, {"energy": 1.5}])
def test_a_rank_or_an_energy_is_given(given: dict[str, Any]) -> None:
    with pytest.raises(CaloraError, match=r"rank or an energy|is not above 0"):
        truncated(random_update(0), **given)
