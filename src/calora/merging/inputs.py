"""What every merge takes: adapters that fit each other, a strength each, the modules that any of them has."""

import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from typing import TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

from calora.adapter import Adapter, Factors, layer_of
from calora.errors import CaloraError
from calora.processes import cores

Part = TypeVar("Part")
_THREADS = 4


def checked(adapters: Sequence[Adapter], strengths: Sequence[float] | None, default: float) -> list[float]:
    """The strengths of adapters that fit each other.

    Args:
        adapters: At least one.
        strengths: One number an adapter.
        default: Each one's strength where `strengths` is None.

    Raises:
        CaloraError: There is no adapter, they differ in shapes, or the strengths are not one finite number each.
    """
    if not adapters:
        raise CaloraError("nothing to merge", "give at least one adapter")
    weights = [default] * len(adapters) if strengths is None else list(strengths)
    if len(weights) != len(adapters):
        raise CaloraError(f"{len(weights)} strengths for {len(adapters)} adapters", "give one strength an adapter")
    if not np.isfinite(weights).all():
        raise CaloraError(f"strengths {weights} are not all finite", "give ordinary numbers")
    shapes: dict[str, tuple[int, int]] = {}
    for name, adapter in zip(names(adapters), adapters, strict=True):
        for module, factors in adapter.modules.items():
            if shapes.setdefault(module, factors.shape) != factors.shape:
                raise CaloraError(
                    f"{name}: {module} is {factors.shape}, the adapters before it have {shapes[module]}",
                    "merge adapters of one backbone",
                )
    return weights


def check_parents(adapters: Sequence[Adapter]) -> None:
    """Warn of adapters that were trained on other weights of one architecture; other shapes `checked` refuses.

    Raises:
        CaloraError: Two call the same modules by other names, as two classes of one model do.
    """
    for (name, adapter), (other_name, other) in combinations(zip(names(adapters), adapters, strict=True), 2):
        if adapter.modules.keys() & other.modules.keys():
            continue
        places = {_place(module): module for module in adapter.modules}
        twin = next((module for module in other.modules if _place(module) in places), None)
        if twin is not None:
            raise CaloraError(
                f"what {name} calls {places[_place(twin)]}, {other_name} calls {twin}: they have no module in common",
                "load both into one class of the model and save them again, or rename the tensors of one",
            )
    cards = {adapter.card.backbone_sha256: adapter.card for adapter in reversed(adapters) if adapter.card}
    if len(cards) > 1:
        told = " and ".join(f"{card.name} on {card.backbone} ({sha[:8]})" for sha, card in reversed(cards.items()))
        warnings.warn(f"the adapters were trained on different weights: {told}", stacklevel=3)


def _place(module: str) -> tuple[int | None, str]:
    """A module's layer and what it is called in it: `self_attn.q_proj` in layer 3."""
    layer = layer_of(module)
    return layer, module if layer is None else module.partition(f".{layer}.")[2]


def one_rank(module: str, pairs: Sequence[Factors]) -> None:
    """Refuse factors that cannot be added.

    Raises:
        CaloraError: They differ in rank.
    """
    ranks = sorted({pair.rank for pair in pairs})
    if len(ranks) > 1:
        raise CaloraError(
            f"a merge of the factors needs one rank, {module} has ranks {ranks}",
            "train the adapters with one rank, or merge their updates (start or over: product)",
        )


def names(adapters: Sequence[Adapter]) -> list[str]:
    """The name on each one's card; where there is no card, its place from 1."""
    return [adapter.card.name if adapter.card else f"adapter {place}" for place, adapter in enumerate(adapters, 1)]


def modules(adapters: Sequence[Adapter]) -> list[str]:
    """The modules that any of them has, in order of appearance."""
    return list(dict.fromkeys(module for adapter in adapters for module in adapter.modules))


def by_module(names: Sequence[str], make: Callable[[str], Part]) -> dict[str, Part]:
    """Make something of each module, several at a time: most of a factored merge is LAPACK, which lets threads run.

    Args:
        names: Of the modules.
        make: Name to what is made; whatever the order.
    """
    # BLAS with threads of its own would wait for cores that these have.
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(min(_THREADS, cores())) as pool:
        return dict(zip(names, pool.map(make, names), strict=True))


def weighted(module: str, adapters: Sequence[Adapter], weights: Sequence[float]) -> list[tuple[float, Factors]]:
    """The factors of those adapters that have the module, each with its weight."""
    both = zip(weights, adapters, strict=True)
    return [(weight, adapter.modules[module]) for weight, adapter in both if module in adapter.modules]
