"""KnOTS, core space, TSV-M, Iso-C and SVD, in low-rank form, against the same on whole matrices."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calora.adapter import Adapter, Factors
from calora.merging import core_space, iso_c, knots, linear_product, merge, svd, ties, tsv_m
from calora.merging.spaces import core_space as core_coordinates
from calora.merging.spaces import knots_space
from tests.conftest import random_adapter
from tests.merging.helpers import UP, Q, assert_same, dense, several

WIDE = {Q: (40, 30), UP: (24, 48)}
seeds = st.integers(0, 200)
ranks = st.sampled_from([(1, 1), (3, 3), (2, 5)])


def two(seed: int, ranks: tuple[int, int]) -> list[Adapter]:
    return [random_adapter(WIDE, 2 * seed + place, rank, f"task{place}") for place, rank in enumerate(ranks)]


def whole(adapter: Adapter, module: str) -> Any:
    pair = adapter.modules[module]
    return pair.b.astype(np.float64) @ pair.a.astype(np.float64)


@given(seed=seeds, ranks=ranks)
def test_coordinates_lead_back_to_the_update(seed: int, ranks: tuple[int, int]) -> None:
    pairs = [adapter.modules[Q] for adapter in two(seed, ranks)]
    for space in (knots_space, core_coordinates):
        coordinates = space(pairs)
        for pair, form in zip(pairs, coordinates.forms, strict=True):
            back = coordinates.back(form())
            assert isinstance(back, Factors)
            assert back.rank <= sum(ranks)
            np.testing.assert_allclose(back.update(), pair.update(), atol=1e-5)


def ties_by_hand(parties: list[dict[str, Any]], weights: Any, density: float, scope: str) -> dict[str, Any]:
    """TIES on a matrix for each adapter's module, trimmed module by module or an adapter at once."""
    kept = []
    for party in parties:
        entries = {module: np.sort(np.abs(matrix), axis=None) for module, matrix in party.items()}
        if scope == "adapter":
            entries = dict.fromkeys(entries, np.sort(np.concatenate(list(entries.values()))))
        least = {module: sizes[sizes.size - int(density * sizes.size)] for module, sizes in entries.items()}
        kept.append({m: np.where(np.abs(matrix) >= least[m] * (1 - 1e-6), matrix, 0) for m, matrix in party.items()})
    merged = {}
    for module in parties[0]:
        parts = [party[module] for party in kept]
        elected = np.where(sum(parts) >= 0, 1, -1)
        agree = [np.sign(part) == elected for part in parts]
        total = sum(w * part * yes for w, part, yes in zip(weights, parts, agree, strict=True))
        merged[module] = total / np.maximum(1, sum(yes.astype(int) for yes in agree))
    return merged


@pytest.mark.parametrize("scope", ["module", "adapter"])
@pytest.mark.parametrize(("method", "both_sides"), [(knots, False), (core_space, True)])
@given(seed=seeds, ranks=ranks, density=st.sampled_from([0.3, 1.0]), weights=st.sampled_from([(1, 1), (0.5, -1.5)]))
def test_ties_in_a_basis_is_what_it_is_on_whole_matrices(
    method: Any, both_sides: bool, scope: str, seed: int, ranks: Any, density: float, weights: Any
) -> None:
    adapters = two(seed, ranks)
    merged = dense(method(adapters, weights, density=density, scope=scope))
    sides = {}
    for module in WIDE:
        updates = [whole(adapter, module) for adapter in adapters]
        u = np.linalg.svd(np.concatenate(updates, axis=1))[0][:, : sum(ranks)]
        v = np.linalg.svd(np.concatenate(updates, axis=0))[2][: sum(ranks)].T
        sides[module] = u, v if both_sides else np.eye(len(v))
    parties = [{m: u.T @ whole(adapter, m) @ v for m, (u, v) in sides.items()} for adapter in adapters]
    tolerance = 1e-4 if density == 1 else 2e-2  # at the edge of what is kept the last bit decides
    for module, found in ties_by_hand(parties, weights, density, scope).items():
        u, v = sides[module]
        expected = u @ found @ v.T
        assert np.linalg.norm(merged[module] - expected) < tolerance * np.linalg.norm(expected)


@given(seed=seeds, ranks=ranks, weights=st.sampled_from([(1, 1), (0.5, -1.5)]))
def test_tsv_m_is_what_it_is_on_whole_matrices(seed: int, ranks: tuple[int, int], weights: tuple[float, float]) -> None:
    adapters = two(seed, ranks)
    merged = tsv_m(adapters, weights)
    for module in WIDE:
        parts = [np.linalg.svd(whole(adapter, module), full_matrices=False) for adapter in adapters]
        cut = [(u[:, :rank], s[:rank], vt[:rank]) for (u, s, vt), rank in zip(parts, ranks, strict=True)]
        sides = []
        for side in (np.concatenate([u for u, _, _ in cut], axis=1), np.concatenate([vt.T for *_, vt in cut], axis=1)):
            p, _, qt = np.linalg.svd(side, full_matrices=False)
            sides.append(p @ qt)
        values = np.concatenate([w * s for w, (_, s, _) in zip(weights, cut, strict=True)])
        np.testing.assert_allclose(dense(merged)[module], (sides[0] * values) @ sides[1].T, atol=1e-4)


@given(seed=seeds, ranks=ranks)
def test_iso_c_keeps_directions_and_nuclear_norm_and_flattens_the_rest(seed: int, ranks: tuple[int, int]) -> None:
    adapters = two(seed, ranks)
    merged, plain = iso_c(adapters), linear_product(adapters)
    for module in WIDE:
        u, s, vt = np.linalg.svd(whole(plain, module))
        count = sum(ranks)
        expected = s[:count].mean() * u[:, :count] @ vt[:count]
        np.testing.assert_allclose(dense(merged)[module], expected, atol=1e-4)


@given(seed=seeds, rank=st.integers(1, 8))
def test_svd_is_the_whole_matrix_cut(seed: int, rank: int) -> None:
    adapters = two(seed, (3, 3))
    merged = svd(adapters, (1.0, -0.5), rank=rank)
    assert merged.rank == min(rank, 6)
    for module in WIDE:
        u, s, vt = np.linalg.svd(whole(adapters[0], module) - 0.5 * whole(adapters[1], module))
        expected = (u[:, :rank] * s[:rank]) @ vt[:rank]
        np.testing.assert_allclose(dense(merged)[module], expected, atol=1e-5)


def test_equal_adapters_share_their_directions() -> None:
    """Nothing is made up where the concatenated singular vectors have no second orthogonal direction."""
    adapter = random_adapter(WIDE, 0)
    merged = tsv_m([adapter, adapter])
    for module in WIDE:
        u, s, vt = np.linalg.svd(whole(adapter, module), full_matrices=False)
        np.testing.assert_allclose(dense(merged)[module], (u[:, :3] * s[:3]) @ vt[:3], atol=1e-4)


@pytest.mark.parametrize("merged", [knots, core_space])
def test_by_dare_nothing_is_lost_where_all_is_kept(merged: Any) -> None:
    adapters = several(0, 2)
    assert_same(merged(adapters, (0.5, 1.5), rule="dare", density=1.0), linear_product(adapters, (0.5, 1.5)), 1e-4)
    dropped = merged(adapters, rule="dare", density=0.5, seed=1)
    assert_same(merged(adapters[::-1], rule="dare", density=0.5, seed=1), dropped, 1e-4)


def test_a_basis_is_another_place_to_compare() -> None:
    adapters = [random_adapter(WIDE, seed) for seed in (0, 1)]
    found = {name: dense(merge(adapters, name, density=0.2))[Q] for name in ("ties", "knots", "core")}
    assert all(np.abs(found["ties"] - found[name]).max() > 0.01 for name in ("knots", "core"))
    assert_same(ties(adapters, density=0.2, over="core"), core_space(adapters, density=0.2), 1e-6)


def test_three_adapters_of_three_ranks_and_a_missing_module_merge() -> None:
    adapters = [random_adapter(WIDE, 0, 1), random_adapter(WIDE, 1, 4), random_adapter({Q: WIDE[Q]}, 2, 2)]
    for name in ("product", "svd", "ties", "knots", "core", "tsv_m", "iso_c", "karcher", "dare", "breadcrumbs"):
        merged = merge(adapters, name, (1.0, -0.5, 0.25), rank=4)
        assert set(merged.modules) == set(WIDE)
        assert isinstance(merged, Adapter)
        assert merged.rank <= 4


@pytest.mark.parametrize("name", ["tsv_m", "iso_c", "knots", "core", "svd"])
def test_parts_that_cancel_in_an_adapter_change_no_merge(name: str) -> None:
    """[B x, B, -B x] [A x; A; A x] is B A as well."""
    first, second = two(0, (3, 3))
    extra = random_adapter(WIDE, 9, 2)
    padded = Adapter(
        {
            module: Factors(
                np.concatenate([extra.modules[module].a, pair.a, extra.modules[module].a]),
                np.concatenate([extra.modules[module].b, pair.b, -extra.modules[module].b], axis=1),
            )
            for module, pair in first.modules.items()
        }
    )
    given = {"rank": 3} if name == "svd" else {}
    assert_same(merge([padded, second], name, **given), merge([first, second], name, **given), 1e-3)


@pytest.mark.parametrize("name", ["tsv_m", "iso_c", "knots", "core", "svd"])
def test_how_an_update_is_split_between_its_factors_changes_no_merge(name: str) -> None:
    adapters = two(0, (3, 3))
    skewed = [
        Adapter({m: Factors(pair.a * np.float32(scale), pair.b / np.float32(scale)) for m, pair in one.modules.items()})
        for one, scale in zip(adapters, (1e4, 1e-4), strict=True)
    ]
    assert_same(merge(skewed, name), merge(adapters, name), 1e-4)


def test_tsv_m_keeps_all_that_has_room() -> None:
    shapes = {Q: (10, 10)}
    whole = tsv_m([random_adapter(shapes, 0, 8), random_adapter(shapes, 1, 2)])
    assert np.linalg.matrix_rank(dense(whole)[Q]) == 10
    crowded = tsv_m([random_adapter(shapes, 0, 8), random_adapter(shapes, 1, 8)])
    assert np.linalg.matrix_rank(dense(crowded)[Q]) == 10
