from pathlib import Path

import pytest

from calora.bench.recipe import ApproachRecipe, Recipe, read_recipe
from calora.errors import CaloraError

GOOD = """
compositions: [summary+es, summary+shout]
approaches:
  - zero-shot
  - name: linear
    settings: [paper, tuned]
  - name: any-calibration
    label: row scale
    options: {kind: row-scale}
search: {compositions: [summary+es], budget: 6}
tasks:
  shout: {role: tone, instruction: Shout the text., then: shout it., label: loud, field: loud}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_recipe_reads_and_survives_being_written(tmp_path: Path) -> None:
    recipe = read_recipe(write(tmp_path, GOOD))
    assert [approach.name for approach in recipe.approaches] == ["zero-shot", "linear", "any-calibration"]
    composition = recipe.parse("summary+shout")
    assert composition.instruction == "Summarize the dialogue. Then shout it."
    assert composition.tasks[1].key == "loud"
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


def test_the_settings_of_an_approach_may_have_compositions_of_their_own(tmp_path: Path) -> None:
    more = "approaches:\n  - {name: ties}\n  - {name: ties, settings: [tuned], compositions: [summary+es]}"
    recipe = read_recipe(write(tmp_path, GOOD.replace("approaches:", more)))
    assert [(one.name, one.settings, one.compositions) for one in recipe.approaches[:2]] == [
        ("ties", ("paper",), None),
        ("ties", ("tuned",), ("summary+es",)),
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("approaches:", "approach:"), "approaches: Field required"),
        (
            ("    settings: [paper, tuned]", "    setting: tuned"),
            "approaches.1.setting: Extra inputs are not permitted",
        ),
        (("search: {compositions: [summary+es], budget: 6}", ""), "a tuned row needs `search`"),
        (
            ("approaches:", "adapter: {learning_rate: 1.0e-3, seed: 7}\napproaches:"),
            "`seed` of `adapter` would be ignored",
        ),
        (
            ("approaches:", "calibration: {learning_rate: -1}\napproaches:"),
            "calibration.learning_rate: Input should be gr",
        ),
        (("label: row scale", "label: linear"), "two approaches are labelled linear"),
        (("label: row scale", "label: own-scale"), "the label own-scale is the demo's"),
        (("role: tone", "role: colour"), "tasks.shout.role: Input should be"),
        (("summary+shout]", "summary+whisper]"), "unknown task 'whisper'"),
        (("compositions: [summary+es, summary+shout]", "compositions: [summary+es"), "is not YAML"),
        ((GOOD, "- one\n- two\n"), "the file: Input should be"),
    ],
)
def test_what_is_wrong_with_a_recipe_is_said(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    path = write(tmp_path, GOOD.replace(*change))
    with pytest.raises(CaloraError) as caught:
        read_recipe(path)
    assert message in str(caught.value)


def test_a_missing_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(CaloraError, match=r"nowhere\.yaml cannot be read"):
        read_recipe(tmp_path / "nowhere.yaml")


def test_a_control_of_another_name_stays_a_control() -> None:
    row = ApproachRecipe(name="ceiling", label="upper")
    assert row.title_of("paper", "control: last pass on the reference") == "control: upper"
    assert row.title_of("paper", "Multi-step") == "upper"


def test_a_language_that_cannot_be_told_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CaloraError, match="unknown language 'shout'"):
        read_recipe(write(tmp_path, GOOD.replace("role: tone", "role: language")))
