"""One pass under the composite prompt: zero-shot, a single adapter, a merge, a calibrated merge, a joint expert."""

from calora.adapter import Adapter, AdapterCard
from calora.attach import Attachable
from calora.backbone import Backbone
from calora.calibration import Unfolded
from calora.generation import Pass
from calora.tasks import Composition, Prompt


def one_pass(backbone: Backbone, composition: Composition, adapter: Attachable | None) -> list[Pass]:
    """The backbone with one adapter or what is like one (None: zero-shot), asked for all tasks at once."""
    return [Pass(adapter, prompt_of(backbone, composition, adapter))]


def prompt_of(backbone: Backbone, composition: Composition, adapter: Attachable | None) -> Prompt:
    """The prompt that an artefact was trained with, if it was trained for just this; else what the backbone gives now.

    A chat template may say other words tomorrow, such as the date.
    """
    card = adapter.card if isinstance(adapter, Adapter | Unfolded) else None
    name = card and (card.name if isinstance(card, AdapterCard) else card.composition)
    if card and card.prompt and name == str(composition):
        return card.prompt
    return backbone.prompt(composition)
