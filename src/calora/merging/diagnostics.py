"""What adapters have to do with each other, module by module, and what a merge leaves of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from calora.adapter import Adapter, Factors
from calora.linalg import NOTHING
from calora.merging.apply import merged_modules
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
        cosines: Between updates, of each pair, in the order of `pairs_of`.
        sign_conflict: Of the entries that two updates or more have, the share at which not all have one sign; half for
            two that have nothing to do with each other. An entry of 0 has no sign.
        output_overlaps: How much of one update's column space lies in another's, from 0 to 1: the mean squared cosine
            of their principal angles; of each pair.
        input_overlaps: The same of their row spaces.
        shares: What the merge holds of each update, <dW', dW_i> / |dW_i|^2: its strength where updates are orthogonal.
        merge_norm: Frobenius norm of the merge.
        foreign: The share of the merge's squared norm that is no combination of the updates.
        cut: The relative error of the merge at the rank that was asked for, also where the method itself cuts to it.
    """

    module: str
    norms: tuple[float, ...]
    effective_ranks: tuple[float, ...]
    cosines: tuple[float, ...]
    sign_conflict: float
    output_overlaps: tuple[float, ...]
    input_overlaps: tuple[float, ...]
    shares: tuple[float, ...]
    merge_norm: float
    foreign: float
    cut: float

    @property
    def cosine(self) -> float:
        """The mean over pairs; 1 for one adapter alone."""
        return _mean(self.cosines)

    @property
    def output_overlap(self) -> float:
        """The mean over pairs; 1 for one adapter alone."""
        return _mean(self.output_overlaps)

    @property
    def input_overlap(self) -> float:
        """The mean over pairs; 1 for one adapter alone."""
        return _mean(self.input_overlaps)


@dataclass(frozen=True)
class Inspection:
    """Adapters and one merge of them.

    Args:
        names: Of the adapters.
        method: Of the merge.
        rank: At which the merge's error is told.
        modules: The facts of each module.
    """

    names: tuple[str, ...]
    method: str
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
        other = "" if self.method == "product" else ", or merge with product"
        for name, share in zip(self.names, self.shares(), strict=True):
            if abs(share) < WASHED_OUT:
                said.append(
                    f"{name} is left at {share:.2f} of its strength: below {WASHED_OUT} little of its task is left; "
                    f"raise its strength{other}"
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
    scale: float = 1.0,
    **options: Any,
) -> Inspection:
    """Compare adapters with each other and with a merge of them, one module's full updates after the other's.

    Args:
        adapters: One or more of one backbone.
        method: As in `merge`.
        strengths: As in `merge`.
        rank: At which the merge's error is told, and to which a method cuts that cuts; the largest adapter's if None.
        scale: Of the merge, a recipe's `lambda`.
        options: As in `merge`: a preset, the method's own parameters.

    Raises:
        CaloraError: As `merge`.
    """
    checked(adapters, strengths, 1.0)
    rank = rank or max(adapter.rank for adapter in adapters)
    facts = [
        _facts(
            module,
            [adapter.modules.get(module) for adapter in adapters],
            part.scaled(scale) if isinstance(part, Factors) else np.float32(scale) * part,
            cut,
        )
        for module, part, cut in merged_modules(adapters, method, strengths, rank=rank, **options)
    ]
    return Inspection(tuple(names(adapters)), method, rank, tuple(facts))


def pairs_of(names: Sequence[str]) -> list[tuple[str, str]]:
    """The pairs of adapters, in the order of what is told of each pair."""
    return list(combinations(names, 2))


def _facts(module: str, pairs: Sequence[Factors | None], merged: Factors | Array, cut: float) -> ModuleFacts:
    products = gram(pairs)
    between = cosines(products)
    norms = np.sqrt(np.maximum(0.0, products.diagonal()))
    with_merge = np.array([0.0 if pair is None else _inner_with(pair, merged) for pair in pairs])
    squares = norms**2
    square = (
        inner(merged, merged) if isinstance(merged, Factors) else float(np.sum(np.square(merged, dtype=np.float64)))
    )
    length = float(np.sqrt(square)) if square > _ROUNDING * squares.sum() else 0.0
    present = [pair for pair, norm in zip(pairs, norms, strict=True) if pair is not None and norm]
    found = {id(pair): _bases(pair) for pair in present}
    out, inside = merged.shape
    empty = np.zeros((out, 0), np.float32), np.zeros((inside, 0), np.float32)
    bases = [found.get(id(pair), empty) for pair in pairs]
    return ModuleFacts(
        module=module,
        norms=tuple(map(float, norms)),
        effective_ranks=tuple(0.0 if pair is None else _effective_rank(pair) for pair in pairs),
        cosines=tuple(float(between[pair]) for pair in combinations(range(len(pairs)), 2)),
        sign_conflict=_sign_conflict(present),
        output_overlaps=_overlaps([left for left, _ in bases]),
        input_overlaps=_overlaps([right for _, right in bases]),
        shares=tuple(map(float, np.divide(with_merge, squares, out=np.zeros_like(squares), where=squares > 0))),
        merge_norm=length,
        foreign=_foreign(products, with_merge, length),
        cut=cut,
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


def _mean(found: Sequence[float]) -> float:
    return float(np.mean(found)) if found else 1.0


def _sign_conflict(pairs: Sequence[Factors]) -> float:
    if len(pairs) < 2:
        return 0.0
    signs = [np.sign(pair.update()).astype(np.int8) for pair in pairs]
    shared = np.count_nonzero(signs, axis=0) > 1
    both = (np.max(signs, axis=0) > 0) & (np.min(signs, axis=0) < 0)
    return float(both.sum() / max(1, shared.sum()))


def _bases(pair: Factors) -> tuple[Array, Array]:
    u, s, vt = pair.svd()
    kept = s > NOTHING * s[0]
    return u[:, kept], vt[kept].T


def _overlaps(bases: Sequence[Array]) -> tuple[float, ...]:
    return tuple(
        float(np.sum((one.T @ other) ** 2)) / max(1, min(one.shape[1], other.shape[1]))
        for one, other in combinations(bases, 2)
    )


def _foreign(products: Doubles, with_merge: Doubles, length: float) -> float:
    """The share of a merge's squared norm outside the span of the updates, from inner products."""
    if not length:
        return 0.0
    coefficients, *_ = np.linalg.lstsq(products, with_merge, rcond=1e-10)
    return float(np.clip(1 - coefficients @ with_merge / length**2, 0.0, 1.0))
