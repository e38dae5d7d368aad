"""Multi-step: one adapter after the other, each reading what the one before it wrote."""

from collections.abc import Mapping

from calora.adapter import Adapter
from calora.approaches.one_pass import prompt_of
from calora.approaches.registry import Plan, approach
from calora.backbone import Backbone
from calora.bench.case import Case
from calora.bench.making import adapter_steps
from calora.generation import Pass
from calora.tasks import Composition


def multi_step(backbone: Backbone, composition: Composition, adapters: Mapping[str, Adapter]) -> list[Pass]:
    """As many passes as tasks, each under its own task's prompt.

    Args:
        backbone: The model.
        composition: The tasks in order.
        adapters: Task name to its adapter.
    """
    own = [(adapters[task.name], Composition((task,))) for task in composition.tasks]
    return [Pass(adapter, prompt_of(backbone, task, adapter)) for adapter, task in own]


@approach("multi-step", "Multi-step")
def planned(case: Case) -> Plan:
    """Plan as many passes as the composition has tasks."""
    names = [task.name for task in case.composition.tasks]
    return Plan(
        lambda backbone, values: multi_step(backbone, case.composition, dict(zip(names, values, strict=True))),
        adapter_steps(case),
    )
