from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calora.backbone import Backbone
from calora.tasks import Composition
from calora.training import shared
from tests.conftest import adapter_logits, assert_near, logits, random_adapter
from tests.training.helpers import SETTINGS, examples_of, make_card, same


def members(llama: Backbone, rows: list[dict[str, Any]], *tasks: str) -> list[Any]:
    from calora.training.shared import Member

    examples = examples_of(rows[:8])
    return [
        Member(random_adapter(llama, seed), llama.prompt(Composition.parse(task)), examples, examples)
        for seed, task in enumerate(tasks)
    ]


def test_of_one_member_it_is_the_plain_calibration(llama: Backbone, rows: list[dict[str, Any]], tmp_path: Path) -> None:
    from calora.training.calibration import train_calibration
    from calora.training.shared import train_shared_calibration

    (member,) = members(llama, rows, "summary")
    card = make_card(llama, "low-rank").model_copy(update={"prompt": member.prompt})
    alone = train_calibration(llama, member.merged, card, member.train, member.validation, SETTINGS, tmp_path / "alone")
    shared = train_shared_calibration(llama, [member], card, SETTINGS, tmp_path / "shared")
    assert alone.tensors.keys() == shared.tensors.keys()
    for name, value in alone.tensors.items():
        np.testing.assert_allclose(shared.tensors[name], value, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_several_members_are_all_learnt_from(llama: Backbone, rows: list[dict[str, Any]], tmp_path: Path) -> None:
    from calora.training.shared import train_shared_calibration

    both = members(llama, rows, "summary", "reply")
    card = make_card(llama, "column-bias")
    learnt = train_shared_calibration(llama, both, card, SETTINGS, tmp_path / "both")
    first = train_shared_calibration(llama, both[:1], card, SETTINGS, tmp_path / "first")
    losses = [entry["eval_loss"] for entry in learnt.card.training["validation"]]
    assert losses[-1] < losses[0]
    assert learnt.card.training["examples"] == 16
    assert not same(dict(learnt.tensors), dict(first.tensors))


def test_each_member_is_learnt_beside_its_own_merge(
    llama: Backbone, rows: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = members(llama, rows, "summary", "reply")
    expected = [adapter_logits(llama, member.merged) for member in both]

    def look(learner: Any, *given: Any) -> dict[str, Any]:
        for current, wanted in enumerate(expected):
            learner.current = current
            assert_near(logits(llama.model, llama.tokenizer), wanted)
        return {}

    monkeypatch.setattr(shared, "train", look)
    shared.train_shared_calibration(llama, both, make_card(llama, "column-bias"), SETTINGS, tmp_path)
