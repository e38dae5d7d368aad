from collections.abc import Callable

import pytest

from calora.backbone import Backbone
from calora.bench.case import Case, Workplace
from tests.bench.helpers import small


@pytest.fixture
def case_of(llama: Backbone) -> Callable[[str], Case]:
    """A case of a composition, with a few dialogues of two domains; nothing is trained for it."""
    recipe = small(llama, data={"train": 8, "validation": 6, "test": 6})
    place = Workplace(recipe, lambda name: llama)
    return lambda composition: Case(place, llama.name, recipe.parse(composition), 0)
