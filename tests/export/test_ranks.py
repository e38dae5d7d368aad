import numpy as np
import pytest

from calora.adapter import Adapter, Factors
from calora.errors import CaloraError
from calora.export.ranks import fit_rank
from tests.conftest import assert_same_updates, random_adapter

SHAPES = {"model.layers.0.self_attn.q_proj": (12, 8), "model.layers.0.mlp.up_proj": (20, 8)}


def test_a_higher_rank_is_the_same_update() -> None:
    adapter = random_adapter(SHAPES, rank=3)
    padded, error = fit_rank(adapter, 8)
    assert padded.rank == 8
    assert error == 0
    assert_same_updates(padded, adapter)


def test_mixed_ranks_become_the_largest() -> None:
    adapter = random_adapter(SHAPES, rank=3)
    first, *others = adapter.modules
    low = Factors(adapter.modules[first].a[:1], adapter.modules[first].b[:, :1])
    mixed = Adapter({first: low, **{name: adapter.modules[name] for name in others}})
    fitted, error = fit_rank(mixed, None)
    assert {factors.rank for factors in fitted.modules.values()} == {3}
    assert error == 0
    assert_same_updates(fitted, mixed)


def test_a_lower_rank_is_the_nearest_and_says_how_near() -> None:
    adapter = random_adapter(SHAPES, rank=5)
    cut, error = fit_rank(adapter, 2)
    assert cut.rank == 2
    differences = [adapter.modules[name].update() - cut.modules[name].update() for name in SHAPES]
    lost = np.sqrt(sum(np.sum(one**2) for one in differences))
    assert error == pytest.approx(lost / adapter.norm(), rel=1e-4)
    tails = [np.linalg.svd(adapter.modules[name].update(), compute_uv=False)[2:] for name in SHAPES]
    assert lost == pytest.approx(np.sqrt(sum(np.sum(tail**2) for tail in tails)), rel=1e-4)


def test_no_rank_is_told() -> None:
    with pytest.raises(CaloraError, match="rank 0 is below 1"):
        fit_rank(random_adapter(SHAPES), 0)
