from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calora.adapter import Adapter, Factors
from calora.errors import CaloraError
from calora.merging import merge, merge_measured, truncated
from calora.merging.diagnostics import Inspection, ModuleFacts, inspect_merge
from tests.conftest import random_adapter
from tests.merging.helpers import Q, dense, in_another_gauge

WIDE = {Q: (64, 48), "layers.0.up_proj": (96, 48)}


def two(seed: int = 0) -> list[Adapter]:
    return [random_adapter(WIDE, 2 * seed + place, 3, name) for place, name in enumerate(("summary", "es"))]


def facts(found: Inspection, module: str = Q) -> ModuleFacts:
    return next(one for one in found.modules if one.module == module)


@given(seed=st.integers(0, 100), strengths=st.tuples(st.floats(0.25, 2, width=32), st.floats(-2, 2, width=32)))
def test_a_product_holds_each_update_at_its_strength_and_nothing_else(seed: int, strengths: Any) -> None:
    first, second = two(seed)
    pair = second.modules[Q]
    rows = np.linalg.qr(np.concatenate([first.modules[Q].a.T, pair.a.T], axis=1))[0].T
    apart = Adapter({Q: Factors(rows[3:].astype(np.float32), pair.b)}, second.card)
    one = Adapter({Q: Factors(rows[:3].astype(np.float32), first.modules[Q].b)}, first.card)
    found = inspect_merge([one, apart], "product", strengths)
    assert found.shares() == pytest.approx(strengths, abs=1e-4)
    assert facts(found).foreign == pytest.approx(0, abs=1e-4)
    assert facts(found).cosine == pytest.approx(0, abs=1e-5)
    assert facts(found).input_overlap == pytest.approx(0, abs=1e-5)


def test_a_mean_of_the_factors_keeps_a_quarter_and_the_rest_is_cross_terms() -> None:
    found = inspect_merge(two(), "factors")
    assert found.shares() == pytest.approx((0.25, 0.25), abs=0.08)
    assert 0.3 < facts(found).foreign < 0.7
    said = found.warnings()
    assert len(said) >= 2
    assert said[0].startswith("summary is left at 0.")
    assert "or merge with product" in said[0]
    assert "product" not in inspect_merge(two(), "product", (0.1, 1.0)).warnings()[0]


def test_factors_that_share_their_a_are_left_at_half() -> None:
    """Adapters trained from one first A: B_i A_j is then nearly B_i A_i."""
    first, second = two()
    shared = Adapter({m: Factors(first.modules[m].a, pair.b) for m, pair in second.modules.items()}, second.card)
    found = inspect_merge([first, shared], "factors")
    assert found.shares() == pytest.approx((0.5, 0.5), abs=0.1)
    assert facts(found).input_overlap == pytest.approx(1, abs=1e-5)
    assert facts(found).foreign == pytest.approx(0, abs=1e-4)
    assert not found.warnings()


@given(seed=st.integers(0, 100))
def test_what_it_says_is_what_whole_matrices_say(seed: int) -> None:
    adapters = two(seed)
    one = facts(inspect_merge(adapters, "ties", density=0.5, rank=4))
    merged = merge(adapters, "ties", density=0.5)
    first, second = (dense(adapter)[Q].astype(np.float64) for adapter in adapters)
    whole = dense(merged)[Q].astype(np.float64)
    assert one.norms == pytest.approx((np.linalg.norm(first), np.linalg.norm(second)), rel=1e-5)
    assert one.cosine == pytest.approx(np.sum(first * second) / np.prod(one.norms), abs=1e-5)
    assert one.sign_conflict == pytest.approx(np.mean(np.sign(first) != np.sign(second)), abs=1e-3)
    assert one.shares[0] == pytest.approx(np.sum(whole * first) / np.sum(first**2), abs=1e-5)
    assert one.merge_norm == pytest.approx(np.linalg.norm(whole), rel=1e-5)
    basis = np.linalg.qr(np.stack([first.ravel(), second.ravel()], axis=1))[0]
    outside = whole.ravel() - basis @ (basis.T @ whole.ravel())
    assert one.foreign == pytest.approx(np.sum(outside**2) / np.sum(whole**2), abs=1e-4)
    assert one.cut == pytest.approx(truncated(merged, rank=4)[1][Q], abs=1e-4)
    values = np.linalg.svd(first, compute_uv=False)[:3]
    shares = values / values.sum()
    assert one.effective_ranks[0] == pytest.approx(np.exp(-np.sum(shares * np.log(shares))), rel=1e-3)
    bases = [np.linalg.svd(update)[0][:, :3] for update in (first, second)]
    cosines = np.linalg.svd(bases[0].T @ bases[1], compute_uv=False)
    assert one.output_overlap == pytest.approx(np.mean(cosines**2), abs=1e-4)


def test_it_does_not_see_the_gauge() -> None:
    first, second = two()
    turned = inspect_merge([first, in_another_gauge(second)], "product")
    plain = inspect_merge([first, second], "product")
    for one, other in zip(turned.modules, plain.modules, strict=True):
        assert one.effective_ranks == pytest.approx(other.effective_ranks, rel=1e-3)
        assert one.input_overlap == pytest.approx(other.input_overlap, abs=1e-3)
        assert one.shares == pytest.approx(other.shares, abs=1e-4)


def test_a_missing_module_and_a_single_adapter_are_told_of() -> None:
    first, second = two()
    part = Adapter({Q: second.modules[Q]}, second.card)
    found = inspect_merge([first, part], "product")
    assert facts(found, "layers.0.up_proj").norms[1] == 0
    assert facts(found, "layers.0.up_proj").shares == pytest.approx((1, 0), abs=1e-5)
    alone = inspect_merge([first], "product")
    assert alone.shares() == pytest.approx((1,), abs=1e-5)
    assert facts(alone).cut == 0


def test_a_zero_update_is_as_a_missing_one() -> None:
    first, second = two()
    missing = Adapter({Q: second.modules[Q]}, second.card)
    zero = Adapter(second.modules | {"layers.0.up_proj": second.modules["layers.0.up_proj"].scaled(0.0)}, second.card)
    for found in (inspect_merge([first, missing], "product"), inspect_merge([first, zero], "product")):
        one = facts(found, "layers.0.up_proj")
        assert (one.output_overlap, one.input_overlap, one.cosine, one.sign_conflict) == (0, 0, 0, 0)


def test_an_entry_of_zero_has_no_sign() -> None:
    halves = [np.repeat([[1.0], [0.0]], 2, axis=0), np.repeat([[0.0], [1.0]], 2, axis=0), np.ones((4, 1))]
    top, bottom, all_over = (
        Adapter({Q: Factors(np.ones((1, 3), np.float32), half.astype(np.float32))}) for half in halves
    )
    minus = Adapter({Q: all_over.modules[Q].scaled(-1.0)})
    assert facts(inspect_merge([top, bottom], "product")).sign_conflict == 0
    assert facts(inspect_merge([top, all_over], "product")).sign_conflict == 0
    assert facts(inspect_merge([top, minus], "product")).sign_conflict == 1
    three = facts(inspect_merge([top, minus, all_over], "product"))
    assert three.sign_conflict == 1
    assert three.cosines == pytest.approx((-(0.5**0.5), 0.5**0.5, -1), abs=1e-6)


def test_what_cancels_is_nothing_and_not_something_foreign() -> None:
    (first, _) = two()
    found = inspect_merge([first, first.with_card(first.card)], "product", (1.0, -1.0))  # type: ignore[arg-type]
    assert facts(found).merge_norm == facts(found).foreign == 0


def test_a_merge_that_is_cut_is_looked_at_as_it_is_cut() -> None:
    found = inspect_merge(two(), "svd")
    assert facts(found).merge_norm == pytest.approx(np.linalg.norm(dense(merge(two(), "svd"))[Q]), rel=1e-5)
    for method, options in (("svd", {}), ("ties_svd", {"preset": "peft"})):
        for rank in (1, 5):
            cut, errors = merge_measured(two(), method, rank=rank, **options)
            found = inspect_merge(two(), method, rank=rank, **options)
            assert facts(found).cut == pytest.approx(errors[Q], abs=1e-5)
            assert facts(found).merge_norm == pytest.approx(np.linalg.norm(dense(cut)[Q]), rel=1e-4)


def test_a_scale_is_that_of_the_merge() -> None:
    whole, half = inspect_merge(two(), "factors"), inspect_merge(two(), "factors", scale=0.5)
    assert half.shares() == pytest.approx([share / 2 for share in whole.shares()], rel=1e-4)
    assert facts(half).cut == pytest.approx(facts(whole).cut)


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(CaloraError, match="no merge is called 'tied'"):
        inspect_merge(two(), "tied")
    with pytest.raises(CaloraError, match="nothing to merge"):
        inspect_merge([])
