"""What calibrations that were learnt elsewhere hang on; nothing is trained."""

from collections.abc import Callable, Sequence

from calora.approaches.calibration import column_bias
from calora.approaches.studies import few, stale, transferred, without
from calora.bench.case import Case
from calora.bench.making import adapter_steps
from calora.bench.store import Step

Cases = Callable[[str], Case]


def keys(steps: Sequence[Step]) -> list[str]:
    return [step.key for step in steps]


def names_of(steps: Sequence[Step], kind: str) -> list[str]:
    return [step.name for step in steps if step.kind == kind]


def test_from_few_dialogues_or_without_a_domain_the_adapters_are_the_usual_ones(case_of: Cases) -> None:
    case = case_of("summary+es")
    *usual, calibration = column_bias(case).parents
    for plan, part in ((few(case, examples=4), {"examples": 4}), (without(case, "arts"), {"without": "arts"})):
        *adapters, learnt = plan.parents
        assert keys(adapters) == keys(learnt.parents) == keys(usual)
        assert dict(learnt.settings) == {**calibration.settings, **part}


def test_one_of_another_composition_is_that_ones_own(case_of: Cases) -> None:
    case, other = case_of("summary+es"), case_of("reply+casual")
    *adapters, learnt = transferred(case, "reply+casual").parents
    assert keys(adapters) == keys(adapter_steps(case))
    assert learnt.key == column_bias(other).parents[-1].key


def test_a_stale_one_was_learnt_with_adapters_of_another_seed(case_of: Cases) -> None:
    case = case_of("summary+es")
    *adapters, learnt = stale(case).parents
    assert names_of(adapters, "adapter") == ["summary seed 0", "es seed 0"]
    assert names_of(learnt.parents, "adapter") == ["summary seed 1", "es seed 1"]
    *adapters, again = stale(case, recalibrated_on=4).parents
    assert keys(adapters) == keys(again.parents[:2]) == keys(adapter_steps(case))
    assert again.parents[2].key == learnt.key, "where it begins"
    assert (again.settings["examples"], again.settings["training"]["epochs"]) == (4, 1)
