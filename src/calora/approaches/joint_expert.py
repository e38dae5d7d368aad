"""Joint experts: a LoRA trained on the composition itself, the whole or one as small as a calibration."""

from calora.approaches.one_pass import one_pass
from calora.approaches.registry import Plan, approach
from calora.bench.case import Case
from calora.bench.making import expert_step

SEARCH = [{"rate": rate, "epochs": epochs} for rate in (1e-4, 2e-4, 4e-4) for epochs in (2, 4)]


@approach("joint-expert", "Joint-expert", search=SEARCH, source="https://arxiv.org/abs/2507.16083")
def joint_expert(case: Case, rank: int = 32, rate: float | None = None, epochs: int | None = None) -> Plan:
    """Plan one pass with a LoRA trained on composed examples.

    Args:
        case: What is asked for.
        rank: r; alpha is half of it, as for the adapters.
        rate: Learning rate; the recipe's for adapters if None.
        epochs: At most; likewise.
    """
    changes = {"learning_rate": rate, "epochs": epochs}
    training = case.recipe.adapter.model_copy(update={key: value for key, value in changes.items() if value})
    return Plan(
        lambda backbone, values: one_pass(backbone, case.composition, values[0]),
        (expert_step(case, training, rank=rank, alpha=max(1, rank // 2)),),
        lambda values: values,
    )
