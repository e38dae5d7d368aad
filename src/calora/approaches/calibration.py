"""Learnable Calibration, both of the paper's variants and what else the same idea can be."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from calora.adapter import Adapter
from calora.approaches.linear import linear_merge
from calora.approaches.one_pass import one_pass
from calora.approaches.registry import Plan, approach
from calora.approaches.tuned_merge import search_step
from calora.backbone import Backbone
from calora.bench.case import Case
from calora.bench.making import adapter_steps, calibration_step, merged, teacher_step
from calora.bench.store import Step
from calora.calibration import Calibration, Kind, Shared
from calora.calibration import calibrated as with_calibration
from calora.generation import Pass
from calora.merging import Start
from calora.training.settings import TrainingSettings

_PAPER = "https://arxiv.org/abs/2507.16083"
_SEARCH = [
    *({"start": "factors", "rate": rate} for rate in (5e-4, 1e-3, 2e-3)),
    {"start": "product", "strength": 0.7, "rate": 1e-3},
]
_ALONE_SEARCH = [{"rate": rate} for rate in (5e-4, 1e-3, 2e-3, 4e-3)]


@approach("calibration", "Learnable Calibration", search=_SEARCH, source=_PAPER)
def column_bias(case: Case, start: Start = "factors", strength: float | None = None, rate: float | None = None) -> Plan:
    """Plan one pass with a column bias on the adapters' merge; options as for `calibrated`."""
    return calibrated(case, "column-bias", start=start, strength=strength, rate=rate)


@approach("calibration++", "Learnable Calibration++", search=_SEARCH, source=_PAPER)
def low_rank(
    case: Case, start: Start = "factors", strength: float | None = None, rate: float | None = None, rank: int = 4
) -> Plan:
    """Plan one pass with a shared low-rank update on the adapters' merge; options as for `calibrated`."""
    return calibrated(case, "low-rank", start=start, strength=strength, rate=rate, rank=rank)


@approach("any-calibration", "Calibration", search=_SEARCH)
def calibrated(
    case: Case,
    kind: Kind = "column-bias",
    start: Start | Literal["searched"] = "factors",
    strength: float | None = None,
    rate: float | None = None,
    epochs: int | None = None,
    rank: int = 4,
    shared: Shared = "kind",
    sites: Sequence[str] | None = None,
    adapters: bool = True,
    taught: bool = False,
    search: Mapping[str, Any] | None = None,
) -> Plan:
    """Plan one pass with a calibrated merge.

    Args:
        case: What is asked for.
        kind: Of the calibration.
        start: The merge it starts from; `searched` is that of `linear-searched`.
        strength: Of every adapter in it; the start's own if None.
        rate: Learning rate; the recipe's for calibrations if None.
        epochs: At most; likewise.
        rank: Of the low-rank kind.
        shared: By all layers per kind of module, or a calibration a layer.
        sites: The kinds of module that are calibrated; all if None.
        adapters: False leaves them out: the calibration acts on the backbone alone.
        taught: The targets are what multi-step says, instead of the corpus's composed references.
        search: Options of the search for a searched start.
    """
    steps = adapter_steps(case) if adapters else ()
    merge = search_step(case, **(search or {})) if start == "searched" else linear_merge(case, start, strength)
    step = calibration_step(
        case,
        steps,
        merge,
        training_of(case, rate, epochs),
        kind=kind,
        rank=rank,
        shared=shared,
        sites=None if sites is None else tuple(sites),
        teacher=teacher_step(case) if taught else None,
    )
    return plan_with(case, steps, step)


def training_of(case: Case, rate: float | None, epochs: int | None) -> TrainingSettings:
    """The recipe's settings for calibrations, with what an approach sets itself."""
    changes = {"learning_rate": rate, "epochs": epochs}
    return case.recipe.calibration.model_copy(update={key: value for key, value in changes.items() if value})


def plan_with(case: Case, adapters: Sequence[Step[Adapter]], calibration: Step[Calibration]) -> Plan:
    """One pass with a calibration on the merge of adapters, which need not be those that it was learnt with."""

    def passes(backbone: Backbone, values: Sequence[Any]) -> list[Pass]:
        *parents, learnt = values
        adapter = merged(backbone, learnt.card.merge, parents)
        return one_pass(backbone, case.composition, with_calibration(adapter, learnt))

    return Plan(passes, (*adapters, calibration), lambda values: values[-1:])


@approach("calibration-alone", "Calibration without adapters", search=_ALONE_SEARCH)
def alone(case: Case, rate: float | None = None, epochs: int | None = None) -> Plan:
    """Plan one pass with a column bias on the backbone alone."""
    return calibrated(case, "column-bias", rate=rate, epochs=epochs, adapters=False)


@approach("calibration++-alone", "Calibration++ without adapters", search=_ALONE_SEARCH)
def low_rank_alone(case: Case, rate: float | None = None, epochs: int | None = None, rank: int = 4) -> Plan:
    """Plan one pass with a low-rank update that all layers share, a joint expert of the calibration's size."""
    return calibrated(case, "low-rank", rate=rate, epochs=epochs, rank=rank, adapters=False)


@approach("calibration-taught", "Calibration taught by multi-step", search=_SEARCH)
def taught(case: Case, start: Start = "factors", strength: float | None = None, rate: float | None = None) -> Plan:
    """Plan one pass with a column bias that learnt from multi-step's own answers: no composed references are used."""
    return calibrated(case, "column-bias", start=start, strength=strength, rate=rate, taught=True)
