"""Merges module by module, and cut while they are made."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calora.adapter import Adapter, Factors
from calora.errors import CaloraError
from calora.merging import merge, merge_measured, merge_methods, truncated
from calora.merging.apply import merged_modules
from tests.conftest import random_adapter
from tests.merging.helpers import SHAPES, UP, Q, assert_same, dense, several


@pytest.mark.parametrize("name", ["ties", "dare", "breadcrumbs", "product", "knots"])
def test_cut_while_merging_is_cut_afterwards(name: str) -> None:
    first, second = several(3, 2)
    second = Adapter({Q: second.modules[Q]}, second.card)
    afterwards, errors = truncated(merge([first, second], name, (0.5, 1.5)), rank=2)
    found, measured = merge_measured([first, second], name, (0.5, 1.5), rank=2)
    assert_same(found, afterwards, 1e-4)
    assert measured == pytest.approx(errors, abs=1e-3)
    assert isinstance(merge([first, second], name, energy=0.9), Adapter)


@pytest.mark.parametrize("name", sorted(set(merge_methods()) - {"factors", "slerp"}))
@pytest.mark.parametrize("between", [False, True])
def test_a_zero_update_is_none_wherever_it_stands(name: str, between: bool) -> None:
    """In a basis that adapters share it would have entries that rounding leaves, which have signs and directions."""
    wide = {Q: (96, 48), UP: (48, 64)}
    first, second, third = (random_adapter(wide, seed, 4, name=f"task{seed}") for seed in range(3))
    lacking = Adapter({UP: second.modules[UP]}, second.card)
    zero = Adapter({**second.modules, Q: second.modules[Q].scaled(0.0)}, second.card)

    def merged(other: Adapter, **options: Any) -> Any:
        return dense(merge([first, other, third] if between else [first, third, other], name, **options))[Q]

    expected = merged(lacking)
    np.testing.assert_allclose(merged(zero), expected, atol=1e-5)
    if name != "svd":  # which is cut to a rank of 4 without one
        np.testing.assert_allclose(merged(lacking, rank=48), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "options"), [("ties", {"scope": "adapter"}), ("knots", {"density": 0.2}), ("product", {})]
)
@pytest.mark.parametrize("dtype", [np.float64, np.float16])
def test_factors_of_another_type_are_merged_in_float32(name: str, options: dict[str, Any], dtype: Any) -> None:
    adapters = [
        Adapter({module: Factors(pair.a.astype(dtype), pair.b.astype(dtype)) for module, pair in one.modules.items()})
        for one in several(0, 2)
    ]
    rounded = [
        Adapter(
            {
                module: Factors(pair.a.astype(dtype).astype(np.float32), pair.b.astype(dtype).astype(np.float32))
                for module, pair in one.modules.items()
            }
        )
        for one in several(0, 2)
    ]
    assert_same(merge(adapters, name, **options), merge(rounded, name, **options), 0)


def test_modules_that_two_classes_of_one_model_call_otherwise_are_refused() -> None:
    first, second = several(0, 2)
    other = Adapter({f"language_model.{module}": pair for module, pair in second.modules.items()}, second.card)
    with pytest.raises(CaloraError, match=r"task0 calls layers\.0\.q_proj, task1 calls language_model\.layers\.0\.q_"):
        merge([first, other], "product")
    apart = [Adapter({Q: first.modules[Q]}), Adapter({UP: second.modules[UP]})]
    assert set(merge(apart, "product").modules) == {Q, UP}


@pytest.mark.parametrize("name", ["ties", "dare", "dare_ties", "breadcrumbs", "knots", "svd", "iso_c"])
def test_merging_holds_no_more_than_four_full_updates_at_a_time(name: str) -> None:
    """Beyond the parents and the result, which is cut to their rank."""
    import tracemalloc

    shapes = {f"layers.{layer}.q_proj": (640, 512) for layer in range(4)}
    adapters = [random_adapter(shapes, seed, 4) for seed in (0, 1)]
    tracemalloc.start()
    merged = merge(adapters, name, rank=4)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert merged.modules
    assert peak - held < 4 * 640 * 512 * 4


def test_svd_is_cut_to_what_is_asked_for_and_tells_what_it_lost() -> None:
    adapters = several(3, 2)
    for given, rank in (({}, 2), ({"rank": 3}, 3), ({"energy": 1.0}, 4)):
        found, errors = merge_measured(adapters, "svd", **given)  # type: ignore[arg-type]
        expected, lost = truncated(merge(adapters, "product"), rank=rank)
        assert isinstance(found, Adapter)
        assert found.rank == rank
        assert_same(found, expected, 1e-5)
        assert errors == pytest.approx(lost, abs=1e-6)


def test_adapters_that_do_not_fit_are_refused_when_cut_as_well() -> None:
    other = random_adapter({Q: (4, 5)}, name="reply")
    with pytest.raises(CaloraError, match=r"reply: layers.0.q_proj is \(4, 5\)"):
        merge([random_adapter(SHAPES), other], "ties", rank=2)


def test_merging_takes_python_three_lines(tmp_path: Path) -> None:
    from calora import merge, read_adapter, write_adapter

    for adapter in several(0, 2):
        write_adapter(adapter, tmp_path / str(adapter.card and adapter.card.name), "float32")
    merged = merge([read_adapter(tmp_path / "task0"), read_adapter(tmp_path / "task1")], "ties", density=0.5, rank=4)
    assert isinstance(merged, Adapter)
    write_adapter(merged, tmp_path / "merged")
    assert isinstance(read_adapter(tmp_path / "merged").modules[Q], Factors)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [(name, {}) for name in merge_methods()]
    + [(name, {"over": "factors"}) for name, method in merge_methods().items() if "over" in method.defaults],
)
def test_a_module_that_one_adapter_lacks_is_a_zero_update_where_modules_are_merged_one_by_one(
    name: str, parameters: dict[str, Any]
) -> None:
    first, second = several(3, 2)
    for adapters in ([first, Adapter({Q: second.modules[Q]}, second.card)], [Adapter({UP: first.modules[UP]}), second]):
        expected = dense(merge(adapters, name, (1.0, -0.5), **parameters))
        for module, part, _ in merged_modules(adapters, name, (1.0, -0.5), rank=2, **parameters):
            found = part.update() if isinstance(part, Factors) else part
            np.testing.assert_allclose(found, expected[module], atol=1e-5)
