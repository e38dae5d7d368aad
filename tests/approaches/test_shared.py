from pathlib import Path

import pytest

from calora.approaches.shared import group_of
from calora.backbone import Backbone
from calora.bench.case import Case, Workplace
from calora.corpus import TextRecord
from calora.errors import CaloraError
from tests.bench.helpers import small


def test_a_group_has_what_there_are_references_for(llama: Backbone) -> None:
    tasks = {
        "title": {"role": "primary", "instruction": "Find a title.", "then": "find a title.", "label": "title"},
        "it": {"role": "language", "instruction": "Translate it.", "then": "translate it.", "label": "Italian"},
    }
    place = Workplace(small(llama, tasks=tasks), lambda name: llama)
    case = Case(place, llama.name, place.recipe.parse("summary+es"), 0)
    assert [str(one) for one in group_of(case, "role")] == ["summary+es", "summary+fr", "summary+de"]
    assert len(group_of(case, "all")) == 14


def test_a_group_is_of_what_any_record_has(llama: Backbone, tmp_path: Path) -> None:
    def record(number: int, split: str, targets: dict[str, dict[str, str]]) -> str:
        text = f"A: What is {number}?\nB: A number."
        return TextRecord(
            id=f"{split}-{number}", split=split, domain="all", text=text, targets=targets
        ).model_dump_json()  # type: ignore[arg-type]

    lines = [
        record(number, split, targets)
        for split in ("train", "validation", "test")
        for number, targets in enumerate(
            [
                {"summary": {"en": "A number.", "fr": "Un nombre."}},
                {"summary": {"en": "A number.", "es": "Un número."}},
                {"reply": {"en": "I see.", "es": "Ya veo."}},
            ]
        )
    ]
    file = tmp_path / "records.jsonl"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    place = Workplace(small(llama, data={"records": [str(file)]}), lambda name: llama)

    def group(composition: str, kind: str) -> list[str]:
        case = Case(place, llama.name, place.recipe.parse(composition), 0)
        return [str(one) for one in group_of(case, kind)]  # type: ignore[arg-type]

    assert group("summary+es", "role") == ["summary+es", "summary+fr"]
    assert group("reply+es", "all") == ["summary+es", "summary+fr", "reply+es"]
    with pytest.raises(CaloraError, match=r"no training record has references for reply\+de"):
        group("reply+de", "role")
