"""The linear merge, as the paper has it or with its start and strength chosen on validation."""

from typing import Any

from calora.approaches.one_pass import one_pass
from calora.approaches.registry import Plan, approach
from calora.bench.case import Case
from calora.bench.making import adapter_steps
from calora.merging import Merge, Start

SEARCH: list[dict[str, Any]] = [
    {"start": "factors"},
    {"start": "factors", "strength": 0.7},
    *({"start": "product", "strength": strength} for strength in (0.8, 1.0)),
]


@approach("linear", "Linear merge", search=SEARCH, source="https://arxiv.org/abs/2507.16083")
def linear(case: Case, start: Start = "factors", strength: float | None = None) -> Plan:
    """Plan one pass with the adapters' linear merge.

    Args:
        case: What is asked for.
        start: `factors` (the paper's mean of A and B) or `product`.
        strength: Of every adapter; the start's own if None.
    """
    merge = linear_merge(case, start, strength)
    return Plan(
        lambda backbone, values: one_pass(backbone, case.composition, merge(values)),
        adapter_steps(case),
    )


def linear_merge(case: Case, start: Start, strength: float | None) -> Merge:
    """The linear merge of a case's adapters, each with the same strength."""
    count = len(case.composition.tasks)
    return Merge(start=start, strengths=None if strength is None else (strength,) * count)
