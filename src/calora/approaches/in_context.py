"""In-context learning: worked examples of the composition stand in the prompt, as many as fit the context."""

import random

from calora.approaches.registry import Plan, approach
from calora.approaches.wording import Wording, prompt_of
from calora.backbone import Backbone
from calora.bench.case import Case
from calora.corpus import Example
from calora.encoding import encode_prompt
from calora.generation import Pass
from calora.tasks import Prompt


@approach("in-context", "In-context learning", search=[{"shots": shots} for shots in (1, 2, 4, 8)])
def in_context(case: Case, shots: int = 4, wording: Wording = "standard") -> Plan:
    """Plan one pass behind worked examples of the training split, drawn by the case's seed.

    Args:
        case: What is asked for.
        shots: The most examples; fewer where the context is too short for them and the longest training dialogue.
        wording: Of the request.
    """

    def passes(backbone: Backbone, values: object) -> list[Pass]:
        pool = list(case.training_examples("train")(0))
        random.Random(case.seed).shuffle(pool)
        longest = max((example.text for example in pool), key=len)
        return [Pass(None, fitting(backbone, case, pool[:shots], wording, longest))]

    return Plan(passes, data=("train",))


def fitting(backbone: Backbone, case: Case, shots: list[Example], wording: Wording, longest: str) -> Prompt:
    """The prompt with as many of the first examples as leave room for a text and its answer.

    Args:
        backbone: Gives the context's length.
        case: What is asked for.
        shots: In order.
        wording: Of the request.
        longest: A text as long as any to come.
    """
    room = backbone.context - case.recipe.max_tokens
    for count in range(len(shots), 0, -1):
        prompt = prompt_of(backbone, case.composition, wording, shots[:count])
        if len(encode_prompt(backbone.tokenizer, prompt, longest, 10**9)) <= room:
            return prompt
    return prompt_of(backbone, case.composition, wording)
