"""Joint experts: a LoRA trained on the composition itself, the whole or one as small as a calibration."""

from calora.approaches.one_pass import one_pass
from calora.approaches.registry import Plan, approach
from calora.bench.case import Case
from calora.bench.making import expert_step
from calora.merging import Merge

SEARCH = [{}, *({"rate": rate} for rate in (1e-4, 6e-4, 1.2e-3))]  # beside the rate of the adapters


@approach("joint-expert", "Joint-expert", search=SEARCH, source="https://arxiv.org/abs/2507.16083")
def joint_expert(
    case: Case, rank: int = 32, rate: float | None = None, epochs: int | None = None, from_merge: bool = False
) -> Plan:
    """Plan one pass with a LoRA trained on composed examples.

    Args:
        case: What is asked for.
        rank: r; alpha is half of it, as for the adapters, and at least 1.
        rate: Learning rate; the recipe's for adapters if None.
        epochs: At most; likewise.
        from_merge: Begin with the mean of the adapters' factors instead of a fresh LoRA; the rank is theirs.
    """
    changes = {"learning_rate": rate, "epochs": epochs}
    training = case.recipe.adapter.model_copy(update={key: value for key, value in changes.items() if value})
    return Plan(
        lambda backbone, values: one_pass(backbone, case.composition, values[0]),
        (expert_step(case, training, rank=rank, alpha=max(1, rank // 2), merge=Merge() if from_merge else None),),
        lambda values: values,
    )


@approach("joint-expert-rank-1", "Joint-expert of rank 1", search=SEARCH)
def rank_one(case: Case, rate: float | None = None, epochs: int | None = None) -> Plan:
    """Plan one pass with a LoRA of rank 1, the smallest that is not shared by layers."""
    return joint_expert(case, rank=1, rate=rate, epochs=epochs)


@approach("joint-expert-from-merge", "Joint-expert from the merge", search=SEARCH)
def from_merge(case: Case, rate: float | None = None, epochs: int | None = None) -> Plan:
    """Plan one pass with a LoRA that was trained on from the adapters' merge."""
    return joint_expert(case, rate=rate, epochs=epochs, from_merge=True)
