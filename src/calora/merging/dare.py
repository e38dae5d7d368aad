"""DARE: drop entries of each update at random and rescale the others, then merge."""

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

from calora.adapter import Adapter
from calora.merging.dense import DenseUpdate
from calora.merging.inputs import checked, checked_density, modules, names
from calora.merging.registry import merge_method
from calora.merging.ties import Sign, disjoint_mean
from calora.storage import Array

SOURCE = "https://arxiv.org/abs/2311.03099"


@merge_method("dare", title="DARE", source=SOURCE, aliases=("dare_linear", "dare_linear_svd"))
def dare(
    adapters: Sequence[Adapter], strengths: Sequence[float] | None = None, *, density: float = 0.5, seed: int = 0
) -> DenseUpdate:
    """Merge by DARE (Yu et al., 2024) over the updates: dW' = sum lambda_i M_i * dW_i / p, M_i drawn from {0, 1}.

    Each entry is kept with probability p = `density`, so that the mean over the seeds is the weighted sum of the
    updates. The draw hangs on the seed, the adapter's name and the module's name alone: neither the order of the
    adapters nor that of the modules changes it (adapters without a card are told apart by their place).

    Args:
        adapters: Adapters of any ranks; a module that one of them lacks is a zero update there.
        strengths: lambda_i; 1 each if None.
        density: p, above 0 and at most 1.
        seed: Of the draw.

    Raises:
        CaloraError: The adapters differ in shapes, or the density is not above 0 and at most 1.
    """
    checked_density(density)
    weights = checked(adapters, strengths, 1.0)
    return DenseUpdate(
        {
            module: np.sum([np.float32(weight) * update for weight, update in updates], axis=0)
            for module, updates in _dropped(adapters, weights, density, seed)
        }
    )


@merge_method("dare_ties", title="DARE with TIES", source=SOURCE, aliases=("dare_ties_svd",))
def dare_ties(
    adapters: Sequence[Adapter],
    strengths: Sequence[float] | None = None,
    *,
    density: float = 0.5,
    seed: int = 0,
    sign: Sign = "total",
) -> DenseUpdate:
    """Drop and rescale as `dare` does, then elect signs and take the disjoint mean as `ties` does.

    Args:
        adapters: Adapters of any ranks; a module that one of them lacks is a zero update there.
        strengths: lambda_i; 1 each if None. An adapter of strength 0 takes no part, in the election neither.
        density: The probability of being kept, above 0 and at most 1.
        seed: Of the draw.
        sign: Elected by the sum of the entries or by their number, as in `ties`.

    Raises:
        CaloraError: The adapters differ in shapes, or the density is not above 0 and at most 1.
    """
    checked_density(density)
    weights = checked(adapters, strengths, 1.0)
    return DenseUpdate(
        {module: disjoint_mean(updates, sign) for module, updates in _dropped(adapters, weights, density, seed)}
    )


def _dropped(
    adapters: Sequence[Adapter], weights: Sequence[float], density: float, seed: int
) -> Iterator[tuple[str, list[tuple[float, Array]]]]:
    """Each module with the strengths and the dropped and rescaled updates of the adapters that have it."""
    named = names(adapters)
    keys = [f"{name}/{named[:place].count(name)}" for place, name in enumerate(named)]  # two may share a name
    for module in modules(adapters):
        yield (
            module,
            [
                (weight, drop(adapter.modules[module].update(), density, _generator(f"{seed}/{key}/{module}")))
                for key, weight, adapter in zip(keys, weights, adapters, strict=True)
                if module in adapter.modules
            ],
        )


def drop(update: Array, density: float, generator: np.random.Generator) -> Array:
    """Keep each entry with probability `density` and divide it by that; the others become 0."""
    kept = generator.random(update.shape, dtype=np.float32) < density
    return np.where(kept, update / np.float32(density), np.float32(0))


def _generator(key: str) -> np.random.Generator:
    return np.random.default_rng(int.from_bytes(hashlib.sha256(key.encode()).digest()))
