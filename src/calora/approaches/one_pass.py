"""One pass under the composite prompt: zero-shot, a single adapter, a merge, a calibrated merge, a joint expert."""

from calora.attach import Attachable
from calora.backbone import Backbone
from calora.generation import Pass
from calora.tasks import Composition


def one_pass(backbone: Backbone, composition: Composition, adapter: Attachable | None) -> list[Pass]:
    """The backbone with one adapter or what is like one (None: zero-shot), asked for all tasks at once."""
    return [Pass(adapter, backbone.prompt(composition))]
