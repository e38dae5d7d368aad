"""The merges that need no data and work on the updates as they are: sums, entries left out, arcs of a sphere."""

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
    return merged(case, "cat", strength)


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
    return merged(case, "ties", strength, density=density)


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
    return merged(case, "dare", strength, density=density, seed=case.seed)


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
    return merged(case, "slerp", strength, t=t)


@approach(
    "magnitude-prune",
    "Magnitude-pruned merge",
    search=[{"density": density, "strength": s} for density in (0.5, 0.2) for s in (1.0, 1.2)],
)
def magnitude_prune(case: Case, density: float = 0.5, strength: float | None = None) -> Plan:
    """Plan one pass with the sum of the updates' largest entries.

    Args:
        case: What is asked for.
        density: Share of each update's entries that is kept.
        strength: Of every adapter; 1 if None.
    """
    return merged(case, "magnitude_prune", strength, density=density)


@approach(
    "dare-ties",
    "DARE-TIES merge",
    search=[{"density": density, "strength": s} for density in (0.5, 0.2) for s in (1.0, 1.5)],
    source="https://arxiv.org/abs/2311.03099",
)
def dare_ties(case: Case, density: float = 0.5, strength: float | None = None) -> Plan:
    """Plan one pass with the TIES merge of updates of which DARE dropped some entries, drawn by the case's seed.

    Args:
        case: What is asked for.
        density: Share of each update's entries that is kept and scaled up.
        strength: Of every adapter; 1 if None.
    """
    return merged(case, "dare_ties", strength, density=density, seed=case.seed)


@approach(
    "breadcrumbs",
    "Model Breadcrumbs merge",
    search=[{}, *({"density": density, "strength": s} for density, s in ((0.9, 0.7), (0.9, 1.2), (0.5, 1.2)))],
    source="https://arxiv.org/abs/2312.06795",
)
def breadcrumbs(case: Case, density: float = 0.9, gamma: float = 0.01, strength: float | None = None) -> Plan:
    """Plan one pass with the sum of the updates without their largest and their smallest entries.

    Args:
        case: What is asked for.
        density: Share of each update's entries that is kept.
        gamma: Share of the largest that goes.
        strength: Of every adapter; 1 if None.
    """
    return merged(case, "breadcrumbs", strength, density=density, gamma=gamma)


@approach(
    "karcher",
    "Karcher-mean merge",
    search=[{"strength": s} for s in (0.85, 1.0, 1.2, 1.4)],
    source="https://arxiv.org/abs/2603.04972",
)
def karcher(case: Case, strength: float | None = None) -> Plan:
    """Plan one pass with the mean of the updates on a sphere.

    Args:
        case: What is asked for; of any number of tasks.
        strength: Of every adapter; 1 if None.
    """
    return merged(case, "karcher", strength)


def merged(case: Case, method: str, strength: float | None, **parameters: float) -> Plan:
    """Plan one pass with a merge of the case's adapters.

    Args:
        case: What is asked for.
        method: A name of the merges' registry.
        strength: Of every adapter; the method's own if None.
        parameters: The method's own.
    """
    merge = find_merge_method(method)
    strengths = None if strength is None else [strength] * len(case.composition.tasks)
    return Plan(
        lambda backbone, values: one_pass(backbone, case.composition, merge(values, strengths, **parameters)),
        adapter_steps(case),
    )
