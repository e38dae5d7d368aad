"""DARE: drop entries of each update at random and rescale the others, then merge."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from calora.adapter import Adapter
from calora.merging.dense import DenseUpdate
from calora.merging.entrywise import Density, Over, Party, entrywise, summed
from calora.merging.registry import merge_method
from calora.merging.sparse import Rescale, drop
from calora.merging.ties import Divide, Sign, Vote, disjoint_mean
from calora.storage import Array

SOURCE = "https://arxiv.org/abs/2311.03099"
Seed = Annotated[int, Field(ge=0, description="of the draw, 0 or more")]


@merge_method("dare", title="DARE", source=SOURCE, aliases=("dare_linear", "dare_linear_svd"))
def dare(
    adapters: Sequence[Adapter],
    strengths: Sequence[float] | None = None,
    *,
    density: Density = 0.5,
    seed: Seed = 0,
    rescale: Rescale = "density",
    over: Over = "product",
) -> DenseUpdate | Adapter:
    """Merge by DARE (Yu et al., 2024) over the updates: dW' = sum lambda_i M_i * dW_i / p, M_i drawn from {0, 1}.

    Each entry is kept with probability p = `density`, so that the mean over the seeds is the weighted sum of the
    updates. The draw hangs on the seed, the adapter's name and the module's name alone: neither the order of the
    adapters nor that of the modules changes it (adapters without a card, or of one name, are known by their factors).

    Args:
        adapters: Adapters of any ranks; a module that one of them lacks is a zero update there.
        strengths: lambda_i; 1 each if None.
        density: p.
        seed: Of the draw.
        rescale: `density` is the work's and PEFT's; mergekit keeps each matrix's l1 norm.
        over: The matrices whose entries are meant.

    Raises:
        CaloraError: The adapters differ in shapes, or a parameter is out of its range.
    """

    def kept(party: Party) -> Array:
        return drop(party.matrix(), party.own(density), party.generator(seed), rescale)

    return entrywise(adapters, strengths, summed(kept), over)


@merge_method("dare_ties", title="DARE with TIES", source=SOURCE, aliases=("dare_ties_svd",))
def dare_ties(
    adapters: Sequence[Adapter],
    strengths: Sequence[float] | None = None,
    *,
    density: Density = 0.5,
    seed: Seed = 0,
    rescale: Rescale = "density",
    sign: Sign = "total",
    vote: Vote = "plain",
    divide: Divide = "count",
    over: Over = "product",
) -> DenseUpdate | Adapter:
    """Drop and rescale as `dare` does, then elect signs and take the disjoint mean as `ties` does.

    Args:
        adapters: Adapters of any ranks; a module that one of them lacks is a zero update there.
        strengths: lambda_i; 1 each if None. An adapter of strength 0 takes no part, in the election neither.
        density: The probability of being kept.
        seed: Of the draw.
        rescale: As in `dare`.
        sign: How a sign is elected, as in `ties`.
        vote: What entries vote with, as in `ties`.
        divide: By what the sum is divided, as in `ties`.
        over: The matrices whose entries are meant.

    Raises:
        CaloraError: The adapters differ in shapes, or a parameter is out of its range.
    """

    def rule(parties: Sequence[Party]) -> Array:
        return disjoint_mean(
            [
                (party.strength, drop(party.matrix(), party.own(density), party.generator(seed), rescale))
                for party in parties
            ],
            sign,
            vote,
            divide,
        )

    return entrywise(adapters, strengths, rule, over)
