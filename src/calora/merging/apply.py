"""Merge adapters by any method, of ours or as another tool has it, whole or cut to a rank."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from calora.adapter import Adapter, Factors
from calora.errors import CaloraError
from calora.merging.conventions import Convention, find_convention, in_mergekits_words
from calora.merging.dense import DenseUpdate, truncated_part
from calora.merging.inputs import check_parents, checked, modules
from calora.merging.registry import find_merge_method
from calora.storage import Array


def merge(
    adapters: Sequence[Adapter],
    method: str = "product",
    strengths: Sequence[float] | None = None,
    *,
    preset: str | None = None,
    rank: int | None = None,
    energy: float | None = None,
    **parameters: Any,
) -> Adapter | DenseUpdate:
    """Merge adapters of one backbone; no backbone is opened.

    Args:
        adapters: Of any ranks and modules; what one of them lacks is a zero update there.
        method: A name of `merge_methods`, an alias of one, or a preset's.
        strengths: One number an adapter, any sign; the method's own default if None.
        preset: Read the name and its defaults as `peft` or `mergekit` does.
        rank: Cut the result to a rank, module by module as it is made; where a rule looks at whole adapters
            (`scope="adapter"`), all updates are there before the first is cut.
        energy: Instead, the least share of each update's squared norm that is to be left.
        parameters: The method's own.

    Returns:
        An adapter, or for methods whose result has full rank and is not cut a `DenseUpdate`.

    Raises:
        CaloraError: The adapters do not fit each other, or there is no such method, parameter or value.
    """
    check_parents(adapters)
    return merge_measured(adapters, method, strengths, preset=preset, rank=rank, energy=energy, **parameters)[0]


def merge_measured(
    adapters: Sequence[Adapter],
    method: str = "product",
    strengths: Sequence[float] | None = None,
    *,
    preset: str | None = None,
    rank: int | None = None,
    energy: float | None = None,
    **parameters: Any,
) -> tuple[Adapter | DenseUpdate, dict[str, float]]:
    """As `merge`, with the relative error of each module that was cut, as `truncated` gives it.

    Nothing is said of adapters of other weights: who merges many times tells it once.
    """
    convention, strengths = _resolved(adapters, method, strengths, preset, parameters)
    if convention.truncated and rank is None and energy is None:
        rank = max((adapter.rank for adapter in adapters), default=1)
    if rank is None and energy is None:
        return find_merge_method(convention.method)(adapters, strengths, **convention.parameters), {}
    factors: dict[str, Factors] = {}
    errors: dict[str, float] = {}
    for module, part in _module_by_module(adapters, strengths, convention):
        factors[module], errors[module] = truncated_part(part, rank=rank, energy=energy)
        del part  # or it would be held while the next is made
    return Adapter(factors), errors


def merged_modules(
    adapters: Sequence[Adapter],
    method: str = "product",
    strengths: Sequence[float] | None = None,
    *,
    rank: int,
    preset: str | None = None,
    **parameters: Any,
) -> Iterator[tuple[str, Factors | Array, float]]:
    """Merge as `merge` does, and give one module after the other: no more than one full update is held.

    Where a rule looks at whole adapters they are merged whole first.

    Args:
        adapters: As in `merge`.
        method: As in `merge`.
        strengths: As in `merge`.
        rank: At which the error is told; methods that cut, cut to it.
        preset: As in `merge`.
        parameters: As in `merge`.

    Yields:
        A module's name, its update, and the relative error of that update cut to the rank.

    Raises:
        CaloraError: As `merge`.
    """
    check_parents(adapters)
    convention, strengths = _resolved(adapters, method, strengths, preset, parameters)
    for module, part in _module_by_module(adapters, strengths, convention):
        cut, error = truncated_part(part, rank=rank)
        yield module, cut if convention.truncated else part, error


def _resolved(
    adapters: Sequence[Adapter],
    method: str,
    strengths: Sequence[float] | None,
    preset: str | None,
    parameters: Mapping[str, Any],
) -> tuple[Convention, Sequence[float] | None]:
    """The method with its parameters, and the strengths as they count."""
    convention = find_convention(method, preset)
    if preset == "mergekit":
        convention = in_mergekits_words(convention, parameters)
    else:
        convention = replace(convention, parameters={**convention.parameters, **parameters})
    if convention.method == "svd":  # cut here, so that a rank or an energy is its own, and what it loses is told
        convention = replace(convention, method="product", truncated=True)
    if convention.normalized:
        strengths = _normalized(checked(adapters, strengths, 1.0))
    return convention, strengths


def _module_by_module(
    adapters: Sequence[Adapter], strengths: Sequence[float] | None, convention: Convention
) -> Iterator[tuple[str, Factors | Array]]:
    own = find_merge_method(convention.method)
    if {**own.defaults, **convention.parameters}.get("scope") == "adapter":
        yield from own(adapters, strengths, **convention.parameters).modules.items()
        return
    checked(adapters, strengths, 1.0)
    for module in modules(adapters):
        yield module, own(part_of(adapters, [module]), strengths, **convention.parameters).modules[module]


def _normalized(strengths: Sequence[float]) -> list[float]:
    total = sum(strengths)
    if abs(total) < 1e-8:
        raise CaloraError(f"strengths {list(strengths)} have the sum 0", "they cannot be normalized; give others")
    return [strength / total for strength in strengths]


def part_of(adapters: Sequence[Adapter], members: Sequence[str]) -> list[Adapter]:
    """Adapters of some modules alone; a zero update where one lacks a module, so that each keeps its place."""
    own = {
        module: next(adapter.modules[module] for adapter in adapters if module in adapter.modules) for module in members
    }
    # Zero in both halves: a merge of the factors adds A as well.
    gaps = {module: Factors(np.zeros_like(pair.a), np.zeros_like(pair.b)) for module, pair in own.items()}
    return [
        Adapter({module: adapter.modules.get(module, gap) for module, gap in gaps.items()}, adapter.card)
        for adapter in adapters
    ]
