"""What adapters have to do with each other, module by module, and what a merge leaves of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from calora.adapter import Adapter, Factors
from calora.linalg import NOTHING
from calora.merging.apply import merged_modules
from calora.merging.dense import truncated_part
from calora.merging.geometry import Doubles, cosines, gram, inner
from calora.merging.inputs import checked, names
from calora.storage import Array

_ROUNDING = 1e-10
WASHED_OUT = 0.4  # the mean of the factors of two that share nothing leaves a quarter


@dataclass(frozen=True)
class ModuleFacts:
    """One module of some adapters and of their merge.

    Args:
        module: Its name.
        norms: Frobenius norm of each update; 0 where an adapter lacks it.
        effective_ranks: Of each update, the exponential of the entropy of its singular values' shares (Roy and
            Vetterli, 2007).
        cosine: Between updates, the mean over pairs.
        sign_conflict: The share of entries at which not all updates have one sign; half for two that have nothing to do
            with each other. Zero updates have no sign.
        output_overlap: How much of one update's column space lies in another's, from 0 to 1: the mean squared cosine of
            their principal angles, the mean over pairs.
        input_overlap: The same of their row spaces.
        shares: What the merge holds of each update, <dW', dW_i> / |dW_i|^2: its strength where updates are orthogonal.
        merge_norm: Frobenius norm of the merge.
        foreign: The share of the merge's squared norm that is no combination of the updates.
        cut: The relative error of the merge at the rank that was asked for.
    """

    module: str
    norms: tuple[float, ...]
    effective_ranks: tuple[float, ...]
    cosine: float
    sign_conflict: float
    output_overlap: float
    input_overlap: float
    shares: tuple[float, ...]
    merge_norm: float
    foreign: float
    cut: float


@dataclass(frozen=True)
class Inspection:
    """Adapters and one merge of them.

    Args:
        names: Of the adapters.
        rank: At which the merge's error is told.
        modules: The facts of each module.
    """

    names: tuple[str, ...]
    rank: int
    modules: tuple[ModuleFacts, ...]

    def shares(self) -> tuple[float, ...]:
        """What the merge holds of each adapter, over all modules together."""
        squares = np.array([one.norms for one in self.modules]) ** 2
        shares = np.array([one.shares for one in self.modules])
        total = squares.sum(axis=0)
        found = np.divide((shares * squares).sum(axis=0), total, out=np.zeros_like(total), where=total > 0)
        return tuple(map(float, found))

    def warnings(self) -> list[str]:
        """What a person should know before using this merge, a sentence each."""
        said = []
        for name, share in zip(self.names, self.shares(), strict=True):
            if abs(share) < WASHED_OUT:
                said.append(
                    f"{name} is left at {share:.2f} of its strength: below {WASHED_OUT} little of its task is left; "
                    "raise its strength, or merge with product"
                )
        squares = sum(one.merge_norm**2 for one in self.modules)
        foreign = sum(one.foreign * one.merge_norm**2 for one in self.modules) / squares if squares else 0.0
        if foreign > WASHED_OUT:
            said.append(
                f"{100 * foreign:.0f} % of the merge belongs to no adapter: cross terms, or what was cut or drawn"
            )
        return said


def inspect_merge(
    adapters: Sequence[Adapter],
    method: str = "factors",
    strengths: Sequence[float] | None = None,
    *,
    rank: int | None = None,
    **options: Any,
) -> Inspection:
    """Compare adapters with each other and with a merge of them; one module's full updates are held at a time.

    Args:
        adapters: One or more of one backbone.
        method: As in `merge`.
        strengths: As in `merge`.
        rank: At which the merge's error is told; the largest adapter's if None.
        options: As in `merge`: a preset, the method's own parameters.

    Raises:
        CaloraError: As `merge`.
    """
    checked(adapters, strengths, 1.0)
    rank = rank or max(adapter.rank for adapter in adapters)
    facts = [
        _facts(module, [adapter.modules.get(module) for adapter in adapters], part, rank)
        for module, part in merged_modules(adapters, method, strengths, **options)
    ]
    return Inspection(tuple(names(adapters)), rank, tuple(facts))


def _facts(module: str, pairs: Sequence[Factors | None], merged: Factors | Array, rank: int) -> ModuleFacts:
    products = gram(pairs)
    norms = np.sqrt(np.maximum(0.0, products.diagonal()))
    with_merge = np.array([0.0 if pair is None else _inner_with(pair, merged) for pair in pairs])
    squares = norms**2
    square = (
        inner(merged, merged) if isinstance(merged, Factors) else float(np.sum(np.square(merged, dtype=np.float64)))
    )
    length = float(np.sqrt(square)) if square > _ROUNDING * squares.sum() else 0.0
    present = [pair for pair, norm in zip(pairs, norms, strict=True) if pair is not None and norm]
    bases = [_bases(pair) for pair in present]
    bases += [(left[:, :0], right[:, :0]) for left, right in bases[:1] for _ in range(len(pairs) - len(present))]
    return ModuleFacts(
        module=module,
        norms=tuple(map(float, norms)),
        effective_ranks=tuple(0.0 if pair is None else _effective_rank(pair) for pair in pairs),
        cosine=_mean_over_pairs(cosines(products)),
        sign_conflict=_sign_conflict(present),
        output_overlap=_overlap([left for left, _ in bases]),
        input_overlap=_overlap([right for _, right in bases]),
        shares=tuple(map(float, np.divide(with_merge, squares, out=np.zeros_like(squares), where=squares > 0))),
        merge_norm=length,
        foreign=_foreign(products, with_merge, length),
        cut=truncated_part(merged, rank=rank)[1],
    )


def _inner_with(pair: Factors, merged: Factors | Array) -> float:
    if isinstance(merged, Factors):
        return inner(pair, merged)
    return float(np.sum((pair.b.T.astype(np.float64) @ merged) * pair.a))


def _effective_rank(pair: Factors) -> float:
    values = pair.svd()[1].astype(np.float64)
    if not values.sum():
        return 0.0
    shares = values[values > 0] / values.sum()
    return float(np.exp(-np.sum(shares * np.log(shares))))


def _mean_over_pairs(matrix: Doubles) -> float:
    found = [matrix[row, column] for row, column in combinations(range(len(matrix)), 2)]
    return float(np.mean(found)) if found else 1.0


def _sign_conflict(pairs: Sequence[Factors]) -> float:
    if len(pairs) < 2:
        return 0.0
    positive = [pair.update() > 0 for pair in pairs]
    together = np.logical_and.reduce(positive) | ~np.logical_or.reduce(positive)
    return float(1 - together.mean())


def _bases(pair: Factors) -> tuple[Array, Array]:
    u, s, vt = pair.svd()
    kept = s > NOTHING * s[0]
    return u[:, kept], vt[kept].T


def _overlap(bases: Sequence[Array]) -> float:
    shared = [
        float(np.sum((one.T @ other) ** 2)) / max(1, min(one.shape[1], other.shape[1]))
        for one, other in combinations(bases, 2)
    ]
    return float(np.mean(shared)) if shared else 1.0


def _foreign(products: Doubles, with_merge: Doubles, length: float) -> float:
    """The share of a merge's squared norm outside the span of the updates, from inner products."""
    if not length:
        return 0.0
    coefficients, *_ = np.linalg.lstsq(products, with_merge, rcond=1e-10)
    return float(np.clip(1 - coefficients @ with_merge / length**2, 0.0, 1.0))
