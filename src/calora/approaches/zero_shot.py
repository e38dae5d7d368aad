"""Zero-shot: the backbone alone, asked for all tasks in one prompt."""

from calora.approaches.registry import Plan, approach
from calora.approaches.wording import WORDINGS, Wording, prompt_of
from calora.bench.case import Case
from calora.generation import Pass


@approach("zero-shot", "Zero-shot", search=[{"wording": wording} for wording in WORDINGS])
def zero_shot(case: Case, wording: Wording = "standard") -> Plan:
    """Plan one pass without an adapter.

    Args:
        case: What is asked for.
        wording: Of the request.
    """
    return Plan(lambda backbone, values: [Pass(None, prompt_of(backbone, case.composition, wording))])
