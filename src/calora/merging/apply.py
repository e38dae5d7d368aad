"""Merge adapters by any method, of ours or as another tool has it, whole or cut to a rank."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from calora.adapter import Adapter, Factors
from calora.errors import CaloraError
from calora.merging.conventions import Convention, find_convention, in_mergekits_words
from calora.merging.dense import DenseUpdate, truncated
from calora.merging.inputs import checked, modules
from calora.merging.registry import find_merge_method


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
        rank: Cut the result to a rank, module by module as it is made.
        energy: Instead, the least share of each update's squared norm that is to be left.
        parameters: The method's own.

    Returns:
        An adapter, or for methods whose result has full rank and is not cut a `DenseUpdate`.

    Raises:
        CaloraError: The adapters do not fit each other, or there is no such method, parameter or value.
    """
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
    """As `merge`, with the relative error of each module that was cut, as `truncated` gives it."""
    convention = find_convention(method, preset)
    if preset == "mergekit":
        convention = in_mergekits_words(convention, parameters)
    else:
        convention = Convention(
            convention.method, {**convention.parameters, **parameters}, convention.normalized, convention.truncated
        )
    if convention.normalized:
        strengths = _normalized(checked(adapters, strengths, 1.0))
    if convention.truncated and rank is None and energy is None:
        rank = max((adapter.rank for adapter in adapters), default=1)
    own = find_merge_method(convention.method)
    if rank is None and energy is None:
        return own(adapters, strengths, **convention.parameters), {}
    if {**own.defaults, **convention.parameters}.get("scope") == "adapter":
        return truncated(own(adapters, strengths, **convention.parameters), rank=rank, energy=energy)
    # One module at a time: no more than one full update is held.
    checked(adapters, strengths, 1.0)
    factors: dict[str, Factors] = {}
    errors: dict[str, float] = {}
    for module in modules(adapters):
        part = own(_alone(adapters, module), strengths, **convention.parameters)
        cut, lost = truncated(part, rank=rank, energy=energy)
        factors.update(cut.modules)
        errors.update(lost)
    return Adapter(factors), errors


def _normalized(strengths: Sequence[float]) -> list[float]:
    total = sum(strengths)
    if abs(total) < 1e-8:
        raise CaloraError(f"strengths {list(strengths)} have the sum 0", "they cannot be normalized; give others")
    return [strength / total for strength in strengths]


def _alone(adapters: Sequence[Adapter], module: str) -> list[Adapter]:
    """Adapters of one module; a zero update where one lacks it, so that each keeps its place and its strength."""
    first = next(adapter.modules[module] for adapter in adapters if module in adapter.modules)
    nothing: Mapping[str, Factors] = {module: Factors(np.zeros_like(first.a), np.zeros_like(first.b))}
    return [
        Adapter({module: adapter.modules[module]} if module in adapter.modules else nothing, adapter.card)
        for adapter in adapters
    ]
