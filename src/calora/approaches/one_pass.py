"""One pass under the composite prompt: zero-shot, a single adapter, a merge, a calibrated merge, a joint expert."""

from calora.adapter import Adapter
from calora.backbone import Backbone
from calora.generation import Pass
from calora.tasks import Composition


def one_pass(backbone: Backbone, composition: Composition, adapter: Adapter | None) -> list[Pass]:
    """The backbone with one adapter (None: zero-shot), asked for all tasks at once."""
    return [Pass(adapter, backbone.prompt(composition))]
