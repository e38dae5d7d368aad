"""One task's adapter alone, asked for all tasks: what the adapters that are there give for nothing."""

from calora.approaches.one_pass import one_pass
from calora.approaches.registry import Plan, approach
from calora.bench.case import Case
from calora.bench.making import adapter_step
from calora.errors import CaloraError


@approach("primary-adapter", "Primary adapter")
def primary_adapter(case: Case) -> Plan:
    """Plan one pass with the first task's adapter."""
    return adapter_of(case, 0)


@approach("secondary-adapter", "Secondary adapter")
def secondary_adapter(case: Case) -> Plan:
    """Plan one pass with the last task's adapter."""
    return adapter_of(case, -1)


@approach("adapter-of", "One adapter")
def adapter_of(case: Case, place: int = 0) -> Plan:
    """Plan one pass with the adapter of one of the tasks.

    Args:
        case: What is asked for.
        place: Of the task in the composition; -1 is the last.

    Raises:
        CaloraError: The composition has no such task.
    """
    if not -len(case.composition.tasks) <= place < len(case.composition.tasks):
        raise CaloraError(f"{case.composition} has no task at place {place}", "places are counted from 0")
    return Plan(
        lambda backbone, values: one_pass(backbone, case.composition, values[0]),
        (adapter_step(case, case.composition.tasks[place]),),
    )
