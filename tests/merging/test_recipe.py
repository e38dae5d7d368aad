import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from calora.adapter import Adapter, adapter_sha256, read_adapter, write_adapter
from calora.errors import CaloraError
from calora.merging import DenseUpdate, merge, shipping, truncated
from calora.merging.recipe import MergeRecipe, full_rank, merge_by_recipe, read_merge_recipe
from calora.merging.shipping import adapter_folder, adapter_name, parent_names, read_models, write_merged
from calora.storage import read_tensors
from tests.conftest import random_adapter
from tests.merging.helpers import assert_same, dense

LAYERS = {f"model.layers.{layer}.{kind}": (6, 5) for layer in range(5) for kind in ("self_attn.q_proj", "mlp.up_proj")}


def pair() -> list[Adapter]:
    return [random_adapter(LAYERS, seed, 2, name) for seed, name in ((0, "summary"), (1, "es"))]


def recipe(**values: Any) -> MergeRecipe:
    models = values.pop("models", [{"model": "summary"}, {"model": "es"}])
    return MergeRecipe.model_validate({"merge_method": "product", "models": models} | values)


def merged(**values: Any) -> Adapter | DenseUpdate:
    return merge_by_recipe(recipe(**values), pair())[0]


def weights(*values: Any) -> list[dict[str, Any]]:
    names = ("summary", "es")
    return [{"model": name, "parameters": {"weight": value}} for name, value in zip(names, values, strict=True)]


def test_one_number_for_all_modules_is_the_merge_itself() -> None:
    assert_same(merged(models=weights(0.5, 2.0)), merge(pair(), "product", (0.5, 2.0)))
    assert_same(merged(), merge(pair(), "product"))
    assert_same(merged(parameters={"weight": 0.5}), merge(pair(), "product", (0.5, 0.5)))
    assert_same(merged(merge_method="ties", parameters={"density": 0.5}), merge(pair(), "ties", density=0.5))


def test_numbers_along_the_layers_are_interpolated_as_mergekit_does() -> None:
    from mergekit.config import evaluate_setting

    setting = [0.0, 1.0, 0.2]
    found = merged(models=weights(setting, 1.0))
    for layer in range(5):
        expected = evaluate_setting("", setting, layer / 4, validate=float)
        for module in (name for name in LAYERS if f".{layer}." in name):
            first, second = (dense(adapter)[module] for adapter in pair())
            np.testing.assert_allclose(dense(found)[module], expected * first + second, atol=1e-6)


def test_numbers_by_filters_are_taken_in_their_order() -> None:
    setting = [{"filter": "mlp", "value": 0.0}, {"filter": "layers.2", "value": [3.0, 3.0]}, {"value": 1.0}]
    found = merged(models=weights(setting, 1.0))
    for module in LAYERS:
        factor = 0.0 if "mlp" in module else 3.0 if ".2." in module else 1.0
        first, second = (dense(adapter)[module] for adapter in pair())
        np.testing.assert_allclose(dense(found)[module], factor * first + second, atol=1e-6)


def test_a_methods_own_parameters_may_differ_too() -> None:
    setting = [{"filter": "mlp", "value": 0.2}, {"filter": "*", "value": 1.0}]
    found = merged(merge_method="ties", parameters={"density": setting})
    for module in LAYERS:
        expected = merge(pair(), "ties", density=0.2 if "mlp" in module else 1.0)
        np.testing.assert_allclose(dense(found)[module], dense(expected)[module], atol=1e-6)


def test_each_adapter_may_have_its_density_and_one_may_have_the_default() -> None:
    models = [{"model": "summary", "parameters": {"density": 0.5}}, {"model": "es"}]
    found = merged(merge_method="ties", models=models)
    assert_same(found, merge(pair(), "ties", density=(0.5, 0.2)))


def test_lambda_scales_what_came_out() -> None:
    whole = merged(merge_method="ties", preset="mergekit", models=weights(0.5, 0.5), parameters={"lambda": 2.0})
    half = merge(pair(), "ties", (0.5, 0.5), preset="mergekit")
    assert_same(whole, DenseUpdate({module: 2 * update for module, update in half.modules.items()}))  # type: ignore[operator]


def test_a_rank_is_cut_to_with_its_errors() -> None:
    cut, errors = merge_by_recipe(recipe(merge_method="ties", rank=3), pair())
    expected, lost = truncated(merge(pair(), "ties"), rank=3)
    assert_same(cut, expected, 1e-4)
    assert errors == pytest.approx(lost, abs=1e-4)
    assert full_rank(recipe(merge_method="ties"), pair())
    assert not full_rank(recipe(merge_method="ties", rank=3), pair())
    assert not full_rank(recipe(merge_method="knots"), pair())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"merge_method": "linear"}, "`linear` is the paper's mean of the factors, PEFT's"),
        ({"base_model": "summary"}, "summary is the base model, which has no update: leave it out"),
        ({"rank": 2, "energy": 0.5}, "not both"),
        ({"rank": 0}, "rank: Input should be greater than or equal to 1"),
        ({"models": []}, "models: "),
        ({"tokenizer_source": "base"}, "tokenizer_source: Extra inputs are not permitted"),
        ({"preset": "lorax"}, "preset: "),
        ({"merge_method": "tied"}, "no merge is called 'tied'"),
        ({"models": [{"model": "summary", "parameters": {"gamma": 0.1}}]}, "summary: `gamma` is no parameter of each"),
        ({"parameters": {"rank": 2}}, "`rank` does not stand in `parameters`"),
        ({"parameters": {"density": []}}, "parameters.density"),
        ({"models": [{"model": "summary", "wieght": 1}]}, "models.0.wieght: "),
    ],
)
def test_what_a_recipe_says_wrong_is_named(tmp_path: Path, values: dict[str, Any], message: str) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump({"merge_method": "product", "models": [{"model": "summary"}]} | values))
    with pytest.raises(CaloraError) as caught:
        read_merge_recipe(file)
    assert message in str(caught.value)


def test_a_rule_over_whole_adapters_needs_one_setting() -> None:
    varying = {"density": [{"filter": "mlp", "value": 0.2}, {"value": 1.0}]}
    with pytest.raises(CaloraError, match="looks at whole adapters") as caught:
        merged(merge_method="knots", parameters=varying)
    assert "scope: module" in str(caught.value.hint)
    found = merged(merge_method="knots", parameters=varying | {"scope": "module"})
    for density, kind in ((0.2, "mlp"), (1.0, "self_attn")):
        expected = merge(pair(), "knots", density=density, scope="module")
        for module in (name for name in LAYERS if kind in name):
            np.testing.assert_allclose(dense(found)[module], dense(expected)[module], atol=1e-5)


def test_a_weight_for_one_alone_is_refused() -> None:
    models = [{"model": "summary", "parameters": {"weight": 0.5}}, {"model": "es"}]
    with pytest.raises(CaloraError, match="no weight is given for es, others are"):
        merged(models=models)


def test_a_weight_whose_filters_leave_modules_out_is_refused() -> None:
    with pytest.raises(CaloraError, match=r"self_attn.q_proj: no weight is given for summary") as caught:
        merged(parameters={"weight": [{"filter": "mlp", "value": 0.3}]})
    assert "a value without a filter is for all that is left" in str(caught.value.hint)


def test_a_gap_is_a_zero_update_where_settings_differ_between_modules() -> None:
    first, second = pair()
    part = Adapter({module: pair for module, pair in second.modules.items() if "q_proj" in module}, second.card)
    varying = recipe(merge_method="factors", models=weights([0.5, 0.500001], 0.5))
    one = recipe(merge_method="factors", models=weights(0.5, 0.5))
    assert_same(merge_by_recipe(varying, [first, part])[0], merge_by_recipe(one, [first, part])[0], 1e-4)


@pytest.mark.parametrize("parameters", [{"weight": "much"}, {"lambda": "x"}, {"weight": True}])
def test_what_should_be_a_number_is_named(parameters: dict[str, Any]) -> None:
    with pytest.raises(CaloraError, match=r"(weight|lambda) = ") as caught:
        merged(parameters=parameters)
    assert caught.value.hint == "expected a number"


def test_updates_whole_and_factored_do_not_mix() -> None:
    over = [{"filter": "layers.0", "value": "core"}, {"value": "product"}]
    with pytest.raises(CaloraError, match="some modules get an update of full rank"):
        merged(merge_method="ties", parameters={"over": over})
    cut = merged(merge_method="ties", parameters={"over": over}, rank=2)
    assert isinstance(cut, Adapter)
    assert set(cut.modules) == set(LAYERS)


def test_mergekits_slerp_goes_from_its_base_to_the_other() -> None:
    given = {"merge_method": "slerp", "preset": "mergekit", "parameters": {"t": 0.25}}
    assert_same(merged(**given, base_model="es"), merge(pair()[::-1], "slerp", preset="mergekit", t=0.25), 1e-5)
    assert_same(merged(**given, base_model="summary"), merge(pair(), "slerp", preset="mergekit", t=0.25), 1e-5)


def test_a_slerp_from_an_adapter_goes_the_same_way_from_a_file_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "recipes"
    for adapter in pair():
        assert adapter.card
        write_adapter(adapter.with_card(adapter.card), folder / adapter.card.name, "float32", base="tiny/base")
    given = {"merge_method": "slerp", "preset": "mergekit", "dtype": "float32"}
    (tmp_path / "elsewhere").mkdir()
    for t, base, first in (
        (0.25, "es", 0.75),
        (0.25, "./es", 0.75),
        (0.25, str(folder / "es"), 0.75),
        (0.25, "summary", 0.25),
        ([{"filter": "mlp", "value": [0.25, 0.25]}, {"value": 0.25}], "es", 0.75),
    ):
        values = {
            **given,
            "models": [{"model": "summary"}, {"model": "./es"}],
            "base_model": base,
            "parameters": {"t": t},
        }
        (folder / "recipe.yaml").write_text(yaml.safe_dump(values))
        expected = merge(pair(), "slerp", preset="mergekit", t=first)
        for place in (folder, tmp_path / "elsewhere"):
            monkeypatch.chdir(place)
            parents, resolved = read_models(read_merge_recipe(folder / "recipe.yaml"))
            found, errors = merge_by_recipe(resolved, parents)
            assert isinstance(found, Adapter)
            assert_same(found, expected, 1e-5)
            write_merged(found, tmp_path / "out", resolved, parents, errors, name="both")
            again = read_merge_recipe(tmp_path / "out/merge.yaml")
            assert_same(merge_by_recipe(again, read_models(again)[0])[0], found, 1e-6)
            assert (
                json.loads((tmp_path / "out/adapter_config.json").read_text())["base_model_name_or_path"] == "tiny/base"
            )
    with pytest.raises(ValidationError, match="es is the base model, which has no update"):
        recipe(merge_method="slerp", base_model="es")


def test_mergekits_second_half_is_looked_for_beside_the_recipe_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for adapter in pair():
        assert adapter.card
        write_adapter(adapter, tmp_path / "here" / adapter.card.name, "float32")
    values = {"merge_method": "product", "models": [{"model": "some/base+summary"}, {"model": "es"}]}
    (tmp_path / "here/recipe.yaml").write_text(yaml.safe_dump(values))
    monkeypatch.chdir(tmp_path)
    parents, resolved = read_models(read_merge_recipe("here/recipe.yaml"))
    assert_same(merge_by_recipe(resolved, parents)[0], merge(pair()))


def test_a_hub_id_stays_one_where_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for adapter in pair():
        assert adapter.card
        write_adapter(adapter, tmp_path / "cache" / adapter.card.name, "float32")
    monkeypatch.setattr(shipping, "adapter_folder", lambda name: tmp_path / "cache" / name.rpartition("/")[2])
    parents, resolved = read_models(recipe(models=[{"model": "some/base+owner/summary"}, {"model": "owner/es"}]))
    found, errors = merge_by_recipe(resolved, parents)
    assert isinstance(found, Adapter)
    write_merged(found, tmp_path / "out", resolved, parents, errors, name="both")
    written = yaml.safe_load((tmp_path / "out/merge.yaml").read_text())
    assert [entry["model"] for entry in written["models"]] == ["owner/summary", "owner/es"]


def test_two_adapters_of_one_task_are_told_apart_by_their_places(tmp_path: Path) -> None:
    places = [str(tmp_path / seed / "summary") for seed in ("0", "1", "2")]
    adapters = [random_adapter(LAYERS, seed, 2, "summary") for seed in range(3)]
    assert parent_names([*places[:1], str(tmp_path / "other")], adapters[:2]) == ["summary", "other"]
    assert parent_names(places, adapters) == ["summary", *places[1:]]
    assert parent_names(["old", "summary"], adapters[:2]) == ["summary", "summary-2"]
    with pytest.raises(CaloraError, match="is given twice"):
        parent_names([places[0], str(tmp_path / "0/../0/summary")], adapters[:2])


def test_a_number_without_a_point_is_a_number_in_yaml_too(tmp_path: Path) -> None:
    for adapter in pair():
        assert adapter.card
        write_adapter(adapter, tmp_path / adapter.card.name, "float32")
    text = "{merge_method: slerp, preset: mergekit, models: [{model: summary}, {model: es}], base_model: es, "
    found = []
    for values in ("{t: 0.1, lambda: 0.2}", "{t: 1e-1, lambda: 2E-1}", "{t: [{value: +1e-1}], lambda: '.2'}"):
        (tmp_path / "recipe.yaml").write_text(f"{text}parameters: {values}}}")
        parents, resolved = read_models(read_merge_recipe(tmp_path / "recipe.yaml"))
        found.append(merge_by_recipe(resolved, parents)[0])
    assert_same(found[1], found[0], 0)
    assert_same(found[2], found[0], 0)


def test_adapters_of_other_weights_are_told_once_whatever_the_groups() -> None:
    first, second = pair()
    assert second.card
    other = second.with_card(second.card.model_copy(update={"backbone": "other", "backbone_sha256": "f" * 64}))
    with pytest.warns(UserWarning, match="different weights") as told:
        merge_by_recipe(recipe(models=weights([1.0, 0.5], 1.0)), [first, other])
    assert len(told) == 1
    full = recipe(merge_method="ties", models=weights([1.0, 0.5], 1.0))
    with pytest.warns(UserWarning, match="different weights") as told:
        assert full_rank(full, [first, other])
        merge_by_recipe(full, [first, other])
    assert len(told) == 1


def test_what_is_written_makes_itself_again(tmp_path: Path) -> None:
    for adapter in pair():
        assert adapter.card
        write_adapter(adapter, tmp_path / adapter.card.name, "float32")
    values = {
        "merge_method": "ties",
        "models": [
            {"model": str(tmp_path / "summary"), "parameters": {"weight": [1.0, 0.5]}},
            {"model": f"tiny+{tmp_path / 'es'}", "parameters": {"weight": 0.5}},
        ],
        "base_model": "tiny/base",
        "parameters": {"density": 0.5},
        "dtype": "float32",
        "rank": 3,
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(values))
    parents, resolved = read_models(read_merge_recipe(tmp_path / "recipe.yaml"))
    first, errors = merge_by_recipe(resolved, parents)
    assert isinstance(first, Adapter)
    write_merged(first, tmp_path / "out", resolved, parents, errors, name="summary+es")
    assert_same(read_adapter(tmp_path / "out"), first, 1e-6)
    again = read_merge_recipe(tmp_path / "out/merge.yaml")
    assert_same(merge_by_recipe(again, read_models(again)[0])[0], first)
    card = read_adapter(tmp_path / "out").card
    assert card
    assert card.parents == {name: adapter_sha256(tmp_path / name) for name in ("summary", "es")}
    assert card.added == 0
    readme = (tmp_path / "out/README.md").read_text()
    stored = sum(tensor.size for tensor in read_tensors(tmp_path / "out/adapter_model.safetensors").values())
    assert f"({stored:,} values in float32)" in readme
    assert "base_model: tiny/base" in readme
    assert all(sha in readme for sha in card.parents.values())
    assert "in the mean" in readme
    text = (tmp_path / "out/merge.yaml").read_text()
    assert str(tmp_path) not in text  # it may be shipped, and moved together with the adapters
    values = yaml.safe_load(text)
    assert values["parameters"] == {"sign": "total", "vote": "plain", "divide": "count"} | values["parameters"]
    assert json.loads((tmp_path / "out/adapter_config.json").read_text())["base_model_name_or_path"] == "tiny/base"
    write_adapter(pair()[0], tmp_path / "es", "float32")
    with pytest.raises(CaloraError, match="is not the adapter of this recipe"):
        read_models(again)


def test_the_card_of_a_merge_for_an_embedded_backbone_names_the_hubs_model_and_its_terms(tmp_path: Path) -> None:
    for adapter in pair():
        assert adapter.card
        card = adapter.card.model_copy(update={"backbone": "gemma3-270m"})
        write_adapter(adapter.with_card(card), tmp_path / card.name, "float32")
    values = {"merge_method": "product", "models": [{"model": "summary"}, {"model": "es"}]}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(values))
    parents, resolved = read_models(read_merge_recipe(tmp_path / "recipe.yaml"))
    merge_of, errors = merge_by_recipe(resolved, parents)
    assert isinstance(merge_of, Adapter)
    write_merged(merge_of, tmp_path / "out", resolved, parents, errors, name="both")
    readme = (tmp_path / "out/README.md").read_text()
    assert "base_model: google/gemma-3-270m\nlicense: gemma\n" in readme
    assert "Gemma Terms of Use" in readme


def test_what_peft_says_of_the_base_model_is_kept(tmp_path: Path) -> None:
    for adapter, base in zip(pair(), ("some/model", "other/model"), strict=True):
        assert adapter.card
        write_adapter(Adapter(adapter.modules), tmp_path / adapter.card.name, "float32", base)
    alone = MergeRecipe.model_validate({"merge_method": "product", "models": [{"model": str(tmp_path / "es")}]})
    parents, resolved = read_models(alone)
    assert resolved.base_model == "other/model"
    write_merged(parents[0], tmp_path / "out", resolved, parents, {}, name="es")
    assert json.loads((tmp_path / "out/adapter_config.json").read_text())["base_model_name_or_path"] == "other/model"
    models = [{"model": str(tmp_path / name)} for name in ("summary", "es")]
    with pytest.warns(UserWarning, match="different base models: some/model, other/model"):
        assert read_models(recipe(models=models))[1].base_model is None


def test_an_adapter_is_a_folder_first_and_mergekits_second_half_next(tmp_path: Path) -> None:
    for name in ("summary+es", "es"):
        (tmp_path / name).mkdir()
    assert adapter_folder(str(tmp_path / "summary+es")) == tmp_path / "summary+es"
    assert adapter_folder(f"google/gemma-3-270m@main+{tmp_path / 'es'}") == tmp_path / "es"
    with pytest.raises(CaloraError, match="is no folder, and the hub does not give it"):
        adapter_folder("nobody/nothing")


def test_an_adapter_without_a_card_is_called_by_its_folder_or_its_hub_id(tmp_path: Path) -> None:
    (tmp_path / "es").mkdir()
    assert adapter_name(str(tmp_path / "es")) == "es"
    assert adapter_name(f"google/gemma-3-270m+{tmp_path / 'es'}") == "es"
    assert adapter_name("owner/name@main") == "owner/name@main"
    assert adapter_name("google/gemma-3-270m+owner/name") == "owner/name"


def test_an_adapters_own_value_goes_before_that_for_all() -> None:
    models = [{"model": "summary", "parameters": {"weight": 0.5}}, {"model": "es"}]
    assert_same(merged(models=models, parameters={"weight": 2.0}), merge(pair(), "product", (0.5, 2.0)))


def test_what_a_preset_has_is_its_default_for_each_and_everywhere() -> None:
    models = [{"model": "summary", "parameters": {"density": 0.5}}, {"model": "es"}]
    found = merged(merge_method="ties", preset="mergekit", models=models)
    assert_same(found, merge(pair(), "ties", preset="mergekit", density=(0.5, 1.0)))
    along = merged(merge_method="slerp", preset="mergekit", parameters={"t": [0.0, 1.0]})
    for layer, t in ((0, 0.0), (4, 1.0)):
        expected = dense(merge(pair(), "slerp", preset="mergekit", t=t))
        for module in (name for name in expected if f".{layer}." in name):
            assert abs(dense(along)[module] - expected[module]).max() < 1e-5
