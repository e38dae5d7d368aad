"""TIES: trim small entries, elect a sign for each place, take the mean of those that agree with it."""

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from calora.adapter import Adapter
from calora.errors import CaloraError
from calora.merging.dense import DenseUpdate
from calora.merging.entrywise import Density, Over, Party, entrywise, every_party
from calora.merging.registry import merge_method
from calora.merging.sparse import blocks, least_kept, trim, zero_below
from calora.storage import Array

Sign = Annotated[
    Literal["total", "frequency"],
    Field(description="elected by the sum of the trimmed entries (`total`) or by their number (`frequency`)"),
]
Vote = Annotated[
    Literal["plain", "weighted"], Field(description="whether entries vote as they are, or times their strength")
]
Divide = Annotated[
    Literal["count", "strength", "none"],
    Field(description="by what the sum of the agreeing entries is divided: their number, their strengths, nothing"),
]
Scope = Annotated[
    Literal["module", "adapter"], Field(description="whether each module is taken by itself, or the whole adapter")
]


@merge_method("ties", title="TIES", source="https://arxiv.org/abs/2306.01708", aliases=("ties_svd",))
def ties(
    adapters: Sequence[Adapter],
    strengths: Sequence[float] | None = None,
    *,
    density: Density = 0.2,
    sign: Sign = "total",
    vote: Vote = "plain",
    divide: Divide = "count",
    scope: Scope = "module",
    over: Over = "product",
) -> DenseUpdate | Adapter:
    """Merge by TIES (Yadav et al., 2023) over the updates dW_i = B_i A_i of each module.

    Trim each update to its largest entries, elect a sign for each place, then take the disjoint mean

        dW' = sum_{i agrees} lambda_i dW_i / |{i agrees}|,

    where i agrees if its trimmed entry has the elected sign. The defaults are PEFT's: election and count come before
    the strengths. mergekit elects by lambda_i dW_i (`vote="weighted"`) and divides by the strengths of those that agree
    (`divide="strength"`). Both tools trim module by module; the work, as FusionBench and KnOTS do, the whole model at
    once (`scope="adapter"`).

    Args:
        adapters: Adapters of any ranks; a module that one of them lacks is a zero update there.
        strengths: lambda_i; 1 each if None. An adapter of strength 0 takes no part, in the election neither.
        density: The fraction of entries kept of each update; 0.2 is the work's own.
        sign: How a sign is elected; a draw elects plus.
        vote: What entries vote with.
        divide: By what the sum is divided.
        scope: What is trimmed at once.
        over: The matrices whose entries are meant.

    Raises:
        CaloraError: The adapters differ in shapes, or a parameter is out of its range.
    """
    trimmed = trimming(adapters, strengths, density, scope, over)

    def rule(parties: Sequence[Party]) -> Array:
        return disjoint_mean([(party.strength, trimmed(party)) for party in parties], sign, vote, divide)

    return entrywise(adapters, strengths, rule, over)


def trimming(
    adapters: Sequence[Adapter],
    strengths: Sequence[float] | None,
    density: float | tuple[float, ...],
    scope: Scope,
    over: Over,
) -> Callable[[Party], Array]:
    """What trims a party's matrix: by its own entries, or by those of its whole adapter.

    Raises:
        CaloraError: Whole adapters are asked for over `factors`.
    """
    if scope == "module":
        return lambda party: trim(party.matrix(), party.own(density))
    if over == "factors":
        raise CaloraError("no tool trims the factors of a whole adapter at once", "leave out scope or over")
    of_each = density if isinstance(density, tuple) else (density,) * len(adapters)
    densities = {place: share for place, share in enumerate(of_each) if share < 1}
    least = least_kept(
        lambda: ((one.place, one.matrix()) for one in every_party(adapters, strengths, over) if one.place in densities),
        densities,
    )
    return lambda party: zero_below(party.matrix(), least.get(party.place, 0.0))


def disjoint_mean(
    updates: Sequence[tuple[float, Array]], sign: Sign, vote: Vote = "plain", divide: Divide = "count"
) -> Array:
    """Elect a sign for each place and take the weighted mean of the entries that have it.

    Args:
        updates: At least one pair of a strength other than 0 and an update [out, in].
        sign: How to elect it, as in `ties`.
        vote: As in `ties`.
        divide: As in `ties`.

    Returns:
        [out, in]; 0 where no entry has the elected sign.
    """
    merged = np.zeros_like(updates[0][1])
    # Strengths that cancel leave what rounding leaves of them, and a division by it anything.
    nothing = 1e-6 * max(abs(weight) for weight, _ in updates) if divide == "strength" else 0.0
    for out, *rows in zip(blocks(merged), *(blocks(update) for _, update in updates), strict=True):
        block = [(np.float32(weight), own) for (weight, _), own in zip(updates, rows, strict=True)]
        votes, total, count = (np.zeros_like(block[0][1]) for _ in range(3))
        for weight, update in block:
            counted = update * weight if vote == "weighted" else update
            votes += np.sign(counted) if sign == "frequency" else counted
        elected = np.where(votes >= 0, np.float32(1), np.float32(-1))
        for weight, update in block:
            side = update * weight if vote == "weighted" else update
            agrees = side * elected > 0
            share = agrees * weight
            total += update * share
            count += share if divide == "strength" else agrees
        if divide != "none":
            total /= np.where(np.abs(count) <= nothing, np.float32(1), count)
        out[:] = total
    return merged
