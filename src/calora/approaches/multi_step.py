"""Multi-step: one adapter after the other, each reading what the one before it wrote."""

from collections.abc import Mapping

from calora.adapter import Adapter
from calora.backbone import Backbone
from calora.generation import Pass
from calora.tasks import Composition


def multi_step(backbone: Backbone, composition: Composition, adapters: Mapping[str, Adapter]) -> list[Pass]:
    """As many passes as tasks, each under its own task's prompt.

    Args:
        backbone: The model.
        composition: The tasks in order.
        adapters: Task name to its adapter.
    """
    return [Pass(adapters[task.name], backbone.prompt(Composition((task,)))) for task in composition.tasks]
