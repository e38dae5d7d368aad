"""Merges whose strengths are learnt from a few composed examples: LoraHub and LM-Cocktail."""

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from calora.adapter import Adapter
from calora.approaches.one_pass import one_pass
from calora.approaches.registry import Plan, approach
from calora.bench.case import Case
from calora.bench.making import adapter_steps
from calora.bench.store import Made, Step
from calora.merging import linear_factors, linear_product, lm_cocktail, lorahub
from calora.storage import write_text

VERSION = 1
Strengths = tuple[float, ...]


@approach(
    "lorahub", "LoraHub", search=[{"shots": n} for n in (5, 10, 20, 40)], source="https://arxiv.org/abs/2307.13269"
)
def lora_hub(case: Case, shots: int = 5, budget: int = 40) -> Plan:
    """Plan one pass with a factors merge whose strengths a search without gradients found.

    Args:
        case: What is asked for.
        shots: Composed training examples; the published 5 by default.
        budget: Merges that are tried.
    """

    def search(adapters: list[Adapter], loss: Callable[[Adapter], float]) -> Strengths:
        return lorahub(adapters, loss, budget, case.seed)[1]

    step = _strengths_step(case, "lorahub", shots, {"budget": budget}, search)
    return Plan(
        lambda backbone, values: one_pass(backbone, case.composition, linear_factors(values[:-1], values[-1])),
        (*adapter_steps(case), step),
    )


@approach(
    "lm-cocktail",
    "LM-Cocktail",
    search=[{"temperature": temperature} for temperature in (5.0, 1.0, 0.2, 0.05)],
    source="https://arxiv.org/abs/2311.13534",
)
def cocktail(case: Case, shots: int = 5, temperature: float = 5.0) -> Plan:
    """Plan one pass with a product merge weighted by each adapter's loss.

    Args:
        case: What is asked for.
        shots: Composed training examples.
        temperature: Of the softmax over the losses; the published code's 5 by default.
    """

    def weigh(adapters: list[Adapter], loss: Callable[[Adapter], float]) -> Strengths:
        return lm_cocktail(adapters, [loss(adapter) for adapter in adapters], temperature)[1]

    step = _strengths_step(case, "lm-cocktail", shots, {"temperature": temperature}, weigh)
    return Plan(
        lambda backbone, values: one_pass(backbone, case.composition, linear_product(values[:-1], values[-1])),
        (*adapter_steps(case), step),
    )


def _strengths_step(
    case: Case,
    method: str,
    shots: int,
    options: dict[str, Any],
    find: Callable[[list[Adapter], Callable[[Adapter], float]], Sequence[float]],
) -> Step[Strengths]:
    """Strengths found by the loss on a few composed training examples, drawn by the case's seed."""

    def make(target: Path, work: Path, parents: list[Made[Any]]) -> None:
        from calora.training.data import EncodedExamples
        from calora.training.mean_loss import mean_loss

        pool = list(case.training_examples("train")(0))
        few = random.Random(case.seed).sample(pool, min(shots, len(pool)))
        data = EncodedExamples(case.backbone, case.backbone.prompt(case.composition), lambda epoch: few)
        strengths = find([made.value for made in parents], lambda adapter: mean_loss(case.backbone, adapter, data))
        write_text(target, json.dumps(list(strengths)) + "\n")

    settings = case.settings("train") | {"version": VERSION, "method": method, "shots": shots} | options
    name = f"{case.composition} {method} seed {case.seed}"
    return Step("strengths", name, settings, make, _read_strengths, adapter_steps(case))


def _read_strengths(path: Path) -> Strengths:
    return tuple(json.loads(path.read_text(encoding="utf-8")))
