from calora.approaches.shared import group_of
from calora.backbone import Backbone
from calora.bench.case import Case, Workplace
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
