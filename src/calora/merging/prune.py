"""Magnitude pruning and breadcrumbs: leave entries out by their size, then add up."""

from collections.abc import Sequence

from calora.adapter import Adapter
from calora.merging.dense import DenseUpdate
from calora.merging.entrywise import Density, Over, Party, entrywise, summed
from calora.merging.registry import merge_method
from calora.merging.sparse import Gamma, trim
from calora.merging.ties import Divide, Sign, Vote, disjoint_mean
from calora.storage import Array

BREADCRUMBS = "https://arxiv.org/abs/2312.06795"


@merge_method(
    "magnitude_prune",
    title="Magnitude pruning",
    source="https://huggingface.co/docs/peft/developer_guides/model_merging",
    aliases=("magnitude_prune_svd",),
)
def magnitude_prune(
    adapters: Sequence[Adapter],
    strengths: Sequence[float] | None = None,
    *,
    density: Density = 0.5,
    over: Over = "product",
) -> DenseUpdate | Adapter:
    """Trim each update to its largest entries, as TIES does, and add them up: dW' = sum lambda_i trim(dW_i).

    Args:
        adapters: Adapters of any ranks; a module that one of them lacks is a zero update there.
        strengths: lambda_i; 1 each if None.
        density: The fraction of entries kept of each update, module by module.
        over: The matrices whose entries are meant.

    Raises:
        CaloraError: The adapters differ in shapes, or a parameter is out of its range.
    """
    return entrywise(adapters, strengths, summed(lambda party: trim(party.matrix(), party.own(density))), over)


@merge_method("breadcrumbs", title="Model Breadcrumbs", source=BREADCRUMBS)
def breadcrumbs(
    adapters: Sequence[Adapter],
    strengths: Sequence[float] | None = None,
    *,
    density: Density = 0.9,
    gamma: Gamma = 0.01,
) -> DenseUpdate | Adapter:
    """Leave out the largest and the smallest entries of each update, add up the rest (Davari and Belilovsky, 2024).

    Of each update the largest `gamma` go, then of the rest the smallest, until `density` is left; where there is no
    room for both, fewer of the largest go. dW' = sum lambda_i of what is left. mergekit's is the same.

    Args:
        adapters: Adapters of any ranks; a module that one of them lacks is a zero update there.
        strengths: lambda_i; 1 each if None.
        density: The fraction of entries kept of each update, module by module.
        gamma: The fraction of the largest that goes.

    Raises:
        CaloraError: The adapters differ in shapes, or a parameter is out of its range.
    """
    return entrywise(adapters, strengths, summed(lambda party: trim(party.matrix(), party.own(density), gamma)))


@merge_method("breadcrumbs_ties", title="Model Breadcrumbs with TIES", source=BREADCRUMBS)
def breadcrumbs_ties(
    adapters: Sequence[Adapter],
    strengths: Sequence[float] | None = None,
    *,
    density: Density = 0.9,
    gamma: Gamma = 0.01,
    sign: Sign = "total",
    vote: Vote = "plain",
    divide: Divide = "count",
) -> DenseUpdate | Adapter:
    """Leave out the largest and the smallest entries as `breadcrumbs` does, then elect signs as `ties` does.

    Args:
        adapters: Adapters of any ranks; a module that one of them lacks is a zero update there.
        strengths: lambda_i; 1 each if None. An adapter of strength 0 takes no part, in the election neither.
        density: The fraction of entries kept of each update, module by module.
        gamma: The fraction of the largest that goes.
        sign: How a sign is elected, as in `ties`.
        vote: What entries vote with, as in `ties`.
        divide: By what the sum is divided, as in `ties`.

    Raises:
        CaloraError: The adapters differ in shapes, or a parameter is out of its range.
    """

    def rule(parties: Sequence[Party]) -> Array:
        kept = [(party.strength, trim(party.matrix(), party.own(density), gamma)) for party in parties]
        return disjoint_mean(kept, sign, vote, divide)

    return entrywise(adapters, strengths, rule)
