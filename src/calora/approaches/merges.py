"""The merges that need no data: concatenation, TIES, DARE and SLERP over the adapters' updates."""

from calora.approaches.one_pass import one_pass
from calora.approaches.registry import Plan, approach
from calora.bench.case import Case
from calora.bench.making import adapter_steps
from calora.merging import find_merge_method


@approach("concatenation", "Concatenation", search=[{}, *({"strength": s} for s in (0.7, 0.85, 1.0))])
def concatenation(case: Case, strength: float | None = None) -> Plan:
    """Plan one pass with the concatenated adapters.

    Args:
        case: What is asked for.
        strength: Of every adapter; 1/N if None.
    """
    return _merged(case, "cat", strength)


@approach(
    "ties",
    "TIES merge",
    search=[{"density": density, "strength": s} for density in (0.2, 0.5) for s in (1.0, 1.5)],
    source="https://arxiv.org/abs/2306.01708",
)
def ties(case: Case, density: float = 0.2, strength: float | None = None) -> Plan:
    """Plan one pass with the TIES merge of the updates.

    Args:
        case: What is asked for.
        density: Share of each update's entries that is kept; the published 0.2 by default.
        strength: Of every adapter; the method's own if None.
    """
    return _merged(case, "ties", strength, density=density)


@approach(
    "dare",
    "DARE merge",
    search=[{"density": density, "strength": s} for density in (0.2, 0.5) for s in (0.8, 1.0)],
    source="https://arxiv.org/abs/2311.03099",
)
def dare(case: Case, density: float = 0.5, strength: float | None = None) -> Plan:
    """Plan one pass with the DARE merge of the updates, drawn by the case's seed.

    Args:
        case: What is asked for.
        density: Share of each update's entries that is kept and scaled up.
        strength: Of every adapter; the method's own if None.
    """
    return _merged(case, "dare", strength, density=density, seed=case.seed)


@approach(
    "slerp",
    "SLERP merge",
    search=[{"strength": s} for s in (0.85, 1.0, 1.2, 1.4)],
    source="https://doi.org/10.1145/325334.325242",
)
def slerp(case: Case, t: float = 0.5, strength: float | None = None) -> Plan:
    """Plan one pass with the spherical interpolation of two updates.

    Args:
        case: What is asked for; of two tasks.
        t: Where between the two.
        strength: Of every adapter; 1 if None.
    """
    return _merged(case, "slerp", strength, t=t)


def _merged(case: Case, method: str, strength: float | None, **parameters: float) -> Plan:
    merge = find_merge_method(method)
    strengths = None if strength is None else [strength] * len(case.composition.tasks)
    return Plan(
        lambda backbone, values: one_pass(backbone, case.composition, merge(values, strengths, **parameters)),
        adapter_steps(case),
    )
