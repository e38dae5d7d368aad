"""A small common set of prompts, for approaches that learn nothing: a backbone may take one better than another."""

from collections.abc import Sequence
from typing import Any, Literal, get_args

from calora.backbone import Backbone, chat_text
from calora.corpus import Example
from calora.errors import CaloraError
from calora.tasks import Composition, Prompt

Wording = Literal["standard", "behind", "described"]
WORDINGS: tuple[Wording, ...] = get_args(Wording)


def prompt_of(
    backbone: Backbone, composition: Composition, wording: Wording = "standard", shots: Sequence[Example] = ()
) -> Prompt:
    """The prompt of a composition in one of three wordings, behind worked examples if there are any.

    `standard` is the prompt that adapters are trained with; `behind` puts the request behind the text; `described` says
    what the text is and that only the answer is wanted.

    Args:
        backbone: Its chat template is used where it has one.
        composition: What is asked for.
        wording: One of the three.
        shots: Examples with their targets.

    Raises:
        CaloraError: An unknown wording.
    """
    if wording not in WORDINGS:
        raise CaloraError(f"unknown wording {wording!r}", f"wordings: {', '.join(WORDINGS)}")
    if wording == "standard" and not shots:
        return backbone.prompt(composition)
    tokenizer: Any = backbone.tokenizer
    before, after = _request(composition, wording)
    worked = "".join(f"{before}{shot.text}{after} {shot.target}\n\n" for shot in shots)
    if not tokenizer.chat_template:
        bos = backbone.prompt(composition).before.partition(composition.instruction)[0]
        return Prompt(f"{bos}{worked}{before}", after, " ")
    mark = "\x00"
    head, _, tail = chat_text(tokenizer, f"{worked}{before}{mark}{after}").partition(mark)
    return Prompt(head, tail, "")


def _request(composition: Composition, wording: Wording) -> tuple[str, str]:
    """What stands before and behind the user's text."""
    if wording == "standard":
        return f"{composition.instruction}\n\n", f"\n\n{composition.label}:"
    if wording == "behind":
        return "", f"\n\n{composition.instruction}\n\n{composition.label}:"
    what = "a dialogue" if composition.primary else "a text"
    return f"Here is {what}:\n\n", f"\n\n{composition.instruction} Give only the answer.\n\n{composition.label}:"
