from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from calora.backbone import Backbone
from calora.bench import making
from calora.bench.case import Case, Workplace
from calora.corpus import Example
from tests.bench.helpers import small


def test_a_domain_that_is_left_out_chooses_no_epoch_either(llama: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = small(llama, data={"train": 6, "validation": 6, "test": 3})
    case = Case(Workplace(recipe, lambda name: llama), llama.name, recipe.parse("summary+es"), 0)
    asked: list[set[str]] = []

    def retrieval_of(backbone: Backbone, composition: Any, examples: Sequence[Example], max_tokens: int) -> float:
        assert (backbone, composition, max_tokens) == (llama, case.composition, recipe.max_tokens)
        asked.append({example.domain for example in examples})
        return 50.0

    monkeypatch.setattr(making, "retrieval_of", retrieval_of)
    assert making.validation_retrieval(case) == 50.0
    (domains,) = asked
    assert len(domains) == 2
    without = min(domains)
    making.validation_retrieval(replace(case, without=without))
    assert asked[1] == domains - {without}
    own = Example("0", "mine", "Ann: Hi.", "Ann saluda.", ("Ann", "Bob"))
    making.validation_retrieval(case, [own])
    assert asked[2] == {"mine"}
