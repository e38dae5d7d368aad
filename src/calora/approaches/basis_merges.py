"""The merges that need no data and work in bases of the updates: SVD, KnOTS, core space, TSV-M and Iso-C."""

from calora.approaches.merges import merged
from calora.approaches.registry import Plan, approach
from calora.bench.case import Case

_STRENGTHS = [{}, *({"strength": s} for s in (0.7, 0.85, 1.2))]


@approach("svd", "SVD merge", search=_STRENGTHS)
def svd(case: Case, strength: float | None = None) -> Plan:
    """Plan one pass with the weighted sum of the updates, cut to the adapters' rank.

    Args:
        case: What is asked for.
        strength: Of every adapter; 1 if None.
    """
    return merged(case, "svd", strength)


@approach(
    "knots",
    "KnOTS merge",
    search=[{}, {"strength": 1.5}, *({"density": 0.2, "strength": s} for s in (1.0, 1.5))],
    source="https://arxiv.org/abs/2410.19735",
)
def knots(case: Case, density: float = 1.0, strength: float | None = None) -> Plan:
    """Plan one pass with the TIES merge in the space of KnOTS.

    Args:
        case: What is asked for.
        density: Share of the entries that is kept; all in the work's code.
        strength: Of every adapter; 1 if None.
    """
    return merged(case, "knots", strength, density=density)


@approach(
    "core-space",
    "Core-space merge",
    search=[{"density": density, "strength": s} for density in (0.2, 0.5) for s in (1.0, 1.5)],
    source="https://arxiv.org/abs/2509.17786",
)
def core_space(case: Case, density: float = 0.2, strength: float | None = None) -> Plan:
    """Plan one pass with the TIES merge in core space.

    Args:
        case: What is asked for.
        density: Share of each core's entries that is kept.
        strength: Of every adapter; 1 if None.
    """
    return merged(case, "core", strength, density=density)


@approach("tsv-m", "TSV-M merge", search=_STRENGTHS, source="https://arxiv.org/abs/2412.00081")
def tsv_m(case: Case, strength: float | None = None) -> Plan:
    """Plan one pass with the merge of singular vectors made orthogonal.

    Args:
        case: What is asked for.
        strength: Of every adapter; 1 if None.
    """
    return merged(case, "tsv_m", strength)


@approach(
    "iso-c",
    "Iso-C merge",
    search=[{}, *({"strength": s} for s in (0.7, 1.5, 2.0))],
    source="https://arxiv.org/abs/2502.04959",
)
def iso_c(case: Case, strength: float | None = None) -> Plan:
    """Plan one pass with the weighted sum of the updates, its spectrum flattened.

    Args:
        case: What is asked for.
        strength: Of every adapter; 1 if None.
    """
    return merged(case, "iso_c", strength)
