"""Calibrations learnt elsewhere than they are used: from few dialogues, other domains, tasks or adapters."""

from dataclasses import replace

from calora.approaches.calibration import plan_with, training_of
from calora.approaches.linear import linear_merge
from calora.approaches.registry import Plan, approach
from calora.bench.case import Case
from calora.bench.making import adapter_steps, calibration_step
from calora.bench.store import Step
from calora.calibration import Calibration, Kind
from calora.merging import Start


@approach("calibration-few", "Calibration from few dialogues")
def few(
    case: Case, examples: int = 30, kind: Kind = "column-bias", start: Start = "factors", rate: float | None = None
) -> Plan:
    """Plan one pass with a calibration that learnt from a part of the composed dialogues; the adapters saw all theirs.

    Args:
        case: What is asked for.
        examples: How many dialogues.
        kind: Of the calibration.
        start: The merge it starts from.
        rate: Learning rate; the recipe's for calibrations if None.
    """
    return plan_with(case, adapter_steps(case), _learnt(case, replace(case, examples=examples), kind, start, rate))


@approach("calibration-without", "Calibration without a domain")
def without(
    case: Case, domain: str, kind: Kind = "column-bias", start: Start = "factors", rate: float | None = None
) -> Plan:
    """Plan one pass with a calibration that saw no dialogue of a domain; look at its scores on that domain.

    Args:
        case: What is asked for.
        domain: Left out of training and validation.
        kind: Of the calibration.
        start: The merge it starts from.
        rate: Learning rate; the recipe's for calibrations if None.
    """
    return plan_with(case, adapter_steps(case), _learnt(case, replace(case, without=domain), kind, start, rate))


@approach("calibration-transferred", "Calibration of another composition")
def transferred(
    case: Case, learnt_on: str, kind: Kind = "column-bias", start: Start = "factors", rate: float | None = None
) -> Plan:
    """Plan one pass with another composition's calibration on this one's adapters.

    Args:
        case: What is asked for.
        learnt_on: The other composition.
        kind: Of the calibration.
        start: The merge it starts from.
        rate: Learning rate; the recipe's for calibrations if None.
    """
    other = replace(case, composition=case.recipe.parse(learnt_on))
    return plan_with(case, adapter_steps(case), _learnt(other, other, kind, start, rate))


@approach("calibration-stale", "Calibration of retrained adapters")
def stale(
    case: Case,
    recalibrated_on: int = 0,
    kind: Kind = "column-bias",
    start: Start = "factors",
    rate: float | None = None,
) -> Plan:
    """Plan one pass with a calibration whose adapters were trained again, from another seed, after it was learnt.

    Args:
        case: What is asked for, with the new adapters.
        recalibrated_on: Dialogues of one more epoch of training, with the new adapters; 0 for none.
        kind: Of the calibration.
        start: The merge it starts from.
        rate: Learning rate; the recipe's for calibrations if None.
    """
    before = replace(case, seed=case.seed + 1)
    learnt = _learnt(before, before, kind, start, rate)
    if recalibrated_on:
        again = replace(case, examples=recalibrated_on)
        learnt = _learnt(case, again, kind, start, rate, epochs=1, begin=learnt)
    return plan_with(case, adapter_steps(case), learnt)


def _learnt(
    case: Case,
    learner: Case,
    kind: Kind,
    start: Start,
    rate: float | None,
    *,
    epochs: int | None = None,
    begin: Step[Calibration] | None = None,
) -> Step[Calibration]:
    """A calibration of a case's adapters on a learner's examples."""
    merge = linear_merge(case, start, None)
    training = training_of(case, rate, epochs)
    return calibration_step(learner, adapter_steps(case), merge, training, kind=kind, begin=begin)
