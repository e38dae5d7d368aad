"""IA3: scales on the keys, the values and the inner activations of the MLP, learnt for the composition alone."""

from calora.approaches.calibration import calibrated
from calora.approaches.registry import Plan, approach
from calora.bench.case import Case

# Scaling what enters `down_proj` is scaling what `up_proj` gives: the activation function acts on the other branch.
_SITES = ("k_proj", "v_proj", "up_proj")
_SEARCH = [{"rate": rate} for rate in (1e-3, 3e-3, 1e-2, 3e-2)]


@approach("ia3", "IA3", search=_SEARCH, source="https://arxiv.org/abs/2205.05638")
def ia3(case: Case, rate: float = 3e-3, epochs: int | None = None) -> Plan:
    """Plan one pass with the backbone's own outputs scaled, a factor a channel and layer.

    Args:
        case: What is asked for.
        rate: Learning rate; the published 3e-3 if left out.
        epochs: At most; the recipe's for calibrations if None.
    """
    return calibrated(case, "output-scale", rate=rate, epochs=epochs, shared="layer", sites=_SITES, adapters=False)
