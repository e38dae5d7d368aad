import copy
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calora.adapter import Adapter, read_adapter, write_adapter
from calora.backbone import Backbone
from calora.calibration import (
    KINDS,
    Calibration,
    CalibrationCard,
    Kind,
    Shared,
    Unfolded,
    calibrated,
    fold,
    fresh_tensors,
    read_calibration,
    site_shapes,
    write_calibration,
)
from calora.errors import CaloraError
from calora.merging import Merge, linear_factors
from calora.sizes import architecture_from_config, calibration_parameters
from tests.conftest import adapter_logits, assert_near, logits, peft_logits, random_adapter

FOLDED: tuple[Kind, ...] = ("column-bias", "row-scale", "low-rank")
SHARED: tuple[Shared, ...] = ("kind", "layer")
SHAPES = {"layers.0.q_proj": (6, 5), "layers.1.q_proj": (6, 5), "layers.0.up_proj": (8, 5)}

kinds = pytest.mark.parametrize("kind", KINDS)
folded_kinds = pytest.mark.parametrize("kind", FOLDED)
sharings = pytest.mark.parametrize("shared", SHARED)


def make_card(kind: Kind, shared: Shared = "kind", rank: int = 4, sha256: str = "0" * 64) -> CalibrationCard:
    return CalibrationCard(
        kind=kind,
        rank=rank if kind == "low-rank" else 0,
        shared=shared,
        composition="summary+es",
        merge=Merge(),
        parents={"summary": "1" * 64},
        backbone="tiny",
        backbone_sha256=sha256,
    )


def merge_for(backbone: Backbone) -> Adapter:
    return linear_factors([random_adapter(backbone, seed) for seed in (1, 2)])


def trained(card: CalibrationCard, merged: Adapter) -> Calibration:
    """A calibration far from its start."""
    random = np.random.default_rng(5)
    fresh = fresh_tensors(card, merged)
    moved = {name: value + random.normal(0, 0.2, value.shape).astype(np.float32) for name, value in fresh.items()}
    return Calibration(card, moved)


def calibrated_logits(backbone: Backbone, merged: Adapter, calibration: Calibration) -> Any:
    """Logits of the forward pass that training uses."""
    import torch

    from calora.attach import hooked
    from calora.training.calibration import calibrated_updates

    parameters = {name: torch.nn.Parameter(torch.from_numpy(value)) for name, value in calibration.tensors.items()}
    with hooked(backbone, calibrated_updates(backbone, merged, calibration.card, parameters)):
        return logits(backbone.model, backbone.tokenizer)


@kinds
@sharings
def test_a_fresh_calibration_changes_no_logit(backbone: Backbone, kind: Kind, shared: Shared) -> None:
    merged = merge_for(backbone)
    card = make_card(kind, shared, sha256=backbone.sha256)
    calibration = Calibration(card, fresh_tensors(card, merged))
    expected = adapter_logits(backbone, merged)
    assert_near(calibrated_logits(backbone, merged, calibration), expected)
    if kind in FOLDED:
        assert_near(adapter_logits(backbone, fold(merged, calibration)), expected)


@folded_kinds
@sharings
def test_folding_is_the_calibrated_forward_pass_and_peft_agrees(
    backbone: Backbone, kind: Kind, shared: Shared, tmp_path: Path
) -> None:
    merged = merge_for(backbone)
    calibration = trained(make_card(kind, shared, sha256=backbone.sha256), merged)
    expected = calibrated_logits(backbone, merged, calibration)
    folded = fold(merged, calibration)
    write_adapter(folded, tmp_path / "folded", "float32")
    assert_near(adapter_logits(backbone, folded), expected)
    assert_near(adapter_logits(backbone, read_adapter(tmp_path / "folded")), expected)
    assert_near(peft_logits(backbone, tmp_path / "folded"), expected)
    assert np.abs(expected - adapter_logits(backbone, merged)).max() > 0.1


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("output-bias", "output bias cannot be folded: it adds a constant"),
        ("output-scale", "output scale cannot be folded: it scales what the backbone's own weights give"),
    ],
)
def test_what_no_lora_can_hold_changes_logits_and_is_kept_in_two_parts(
    llama: Backbone, kind: Kind, message: str
) -> None:
    from calora.attach import attached

    merged = merge_for(llama)
    calibration = trained(make_card(kind, sha256=llama.sha256), merged)
    expected = calibrated_logits(llama, merged, calibration)
    assert np.abs(expected - adapter_logits(llama, merged)).max() > 0.1
    with pytest.raises(CaloraError, match=message) as error:
        fold(merged, calibration)
    assert "column-bias" in str(error.value.hint)
    both = calibrated(merged, calibration)
    assert isinstance(both, Unfolded)
    with attached(llama, both):
        assert_near(logits(llama.model, llama.tokenizer), expected)


@folded_kinds
@sharings
def test_only_the_sites_that_are_named_are_calibrated(llama: Backbone, kind: Kind, shared: Shared) -> None:
    merged = merge_for(llama)
    card = make_card(kind, shared, sha256=llama.sha256).model_copy(update={"sites": ("q_proj", "down_proj")})
    calibration = trained(card, merged)
    assert {name.rpartition(".")[0].rpartition(".")[2] for name in calibration.tensors} == {"q_proj", "down_proj"}
    folded = fold(merged, calibration)
    assert_near(adapter_logits(llama, folded), calibrated_logits(llama, merged, calibration))
    for module, factors in merged.modules.items():
        assert (folded.modules[module] is factors) == (not module.endswith(("q_proj", "down_proj")))


def test_a_site_that_is_not_there_is_named() -> None:
    card = make_card("column-bias").model_copy(update={"sites": ("qkv",)})
    with pytest.raises(CaloraError, match="no module to calibrate is a qkv") as error:
        fresh_tensors(card, random_adapter(SHAPES))
    assert error.value.hint == "kinds of module: q_proj, up_proj"


@folded_kinds
@sharings
def test_folding_follows_the_formula_of_its_kind(kind: Kind, shared: Shared) -> None:
    merged = random_adapter(SHAPES)
    calibration = trained(make_card(kind, shared, rank=2), merged)
    folded = fold(merged, calibration)
    for module, factors in merged.modules.items():
        site = module.rpartition(".")[2] if shared == "kind" else module
        values = {half: calibration.tensors.get(f"{site}.{half}") for half in ("p", "p1", "p2")}
        expected = {
            "column-bias": lambda v, update: update + v["p"][:, None],
            "row-scale": lambda v, update: np.diag(1 + v["p"]) @ update,
            "low-rank": lambda v, update: update + v["p2"] @ v["p1"],
        }[kind](values, factors.update())
        np.testing.assert_allclose(folded.modules[module].update(), expected, atol=1e-5)
    assert folded.rank == merged.rank + {"column-bias": 1, "row-scale": 0, "low-rank": 2}[kind]


@kinds
def test_the_calibrated_forward_pass_follows_the_formula_of_its_kind(llama: Backbone, kind: Kind) -> None:
    import torch

    from calora.training.calibration import calibrated_updates

    formulas: dict[Kind, Callable[..., Any]] = {  # of the input, the module's own output, the merge's, the parameters
        "column-bias": lambda x, out, y, v: out + y + v["p"] * x.sum(axis=-1, keepdims=True),
        "row-scale": lambda x, out, y, v: out + (1 + v["p"]) * y,
        "output-bias": lambda x, out, y, v: out + y + v["p"],
        "output-scale": lambda x, out, y, v: (1 + v["p"]) * (out + y),
        "low-rank": lambda x, out, y, v: out + y + x @ v["p1"].T @ v["p2"].T,
    }
    merged = merge_for(llama)
    calibration = trained(make_card(kind, rank=2, sha256=llama.sha256), merged)
    parameters = {name: torch.nn.Parameter(torch.from_numpy(value)) for name, value in calibration.tensors.items()}
    updates = calibrated_updates(llama, merged, calibration.card, parameters)
    random = np.random.default_rng(3)
    for module, factors in merged.modules.items():
        site = module.rpartition(".")[2]
        v = {half: calibration.tensors.get(f"{site}.{half}") for half in ("p", "p1", "p2")}
        x = random.normal(size=(2, 3, factors.a.shape[1])).astype(np.float32)
        out = random.normal(size=(2, 3, factors.b.shape[0])).astype(np.float32)
        expected = formulas[kind](x, out, x @ factors.update().T, v)
        found = updates[module](torch.from_numpy(x), torch.from_numpy(out)).detach().numpy()
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_small_row_scale_is_not_rounded_away_in_bfloat16(llama: Backbone) -> None:
    import torch

    from calora.training.calibration import calibrated_updates

    merged, card = merge_for(llama), make_card("row-scale", sha256=llama.sha256)
    module, factors = next(iter(merged.modules.items()))
    out, inside = factors.shape
    half = replace(llama, model=copy.deepcopy(llama.model).bfloat16())
    x = torch.randn(64, inside, generator=torch.Generator().manual_seed(0)).bfloat16()

    def norm(p: float) -> float:
        fresh = fresh_tensors(card, merged)
        parameters = {name: torch.nn.Parameter(torch.full(value.shape, p)) for name, value in fresh.items()}
        given = calibrated_updates(half, merged, card, parameters)[module](x, torch.zeros(64, out).bfloat16())
        return float(given.detach().float().norm())

    assert 5e-4 < norm(2e-3) / norm(0.0) - 1 < 6e-3


def test_what_is_folded_says_where_it_comes_from() -> None:
    merged = random_adapter(SHAPES)
    calibration = trained(make_card("row-scale"), merged)
    card = fold(merged, calibration).card
    assert card is not None
    assert (card.name, card.backbone, card.parents) == ("summary+es", "tiny", {"summary": "1" * 64})
    assert card.added == calibration.parameters


@kinds
@sharings
def test_stored_in_bfloat16_and_back(kind: Kind, shared: Shared, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    calibration = trained(make_card(kind, shared), random_adapter(SHAPES))
    write_calibration(calibration, tmp_path / "c")
    stored = load_file(tmp_path / "c" / "calibration.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.bfloat16}
    found = read_calibration(tmp_path / "c")
    assert found.card == calibration.card
    assert set(found.tensors) == set(calibration.tensors)
    for name, tensor in calibration.tensors.items():
        assert np.array_equal(found.tensors[name], torch.from_numpy(tensor).to(torch.bfloat16).float().numpy())
    write_calibration(found, tmp_path / "again")
    for file in ("calibration.safetensors", "calibration.json"):
        assert (tmp_path / "again" / file).read_bytes() == (tmp_path / "c" / file).read_bytes()


@kinds
@sharings
def test_parameters_are_as_many_as_the_sizes_say(backbone: Backbone, kind: Kind, shared: Shared) -> None:
    architecture = architecture_from_config(backbone.model.config.to_dict(), "tiny")
    calibration = trained(make_card(kind, shared), random_adapter(backbone))
    assert calibration.parameters == calibration_parameters(architecture, kind, 4, per_layer=shared == "layer")


def test_fresh_tensors_come_from_their_seed_alone() -> None:
    merged, card = random_adapter(SHAPES), make_card("low-rank")
    first, same, other = (fresh_tensors(card, merged, seed) for seed in (1, 1, 2))
    assert all(np.array_equal(first[name], same[name]) for name in first)
    assert not np.array_equal(first["q_proj.p1"], other["q_proj.p1"])
    assert np.abs(first["q_proj.p1"]).max() <= 1 / np.sqrt(5)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("q_proj.p", (5,), "tensor q_proj.p is (5,), the merge needs (6,)"),
        ("q_proj.p", None, "tensor q_proj.p is missing, the merge needs (6,)"),
        ("k_proj.p", (6,), "tensor k_proj.p is (6,), the merge needs none"),
        ("q_proj.p1", (4, 5), "tensor q_proj.p1 is (4, 5), the merge needs none"),
    ],
)
def test_a_calibration_that_does_not_fit_is_refused_by_tensor(
    name: str, shape: tuple[int, ...] | None, message: str
) -> None:
    merged = random_adapter(SHAPES)
    good = trained(make_card("column-bias"), merged)
    tensors = dict(good.tensors)
    tensors.pop(name, None)
    if shape is not None:
        tensors[name] = np.ones(shape, np.float32)
    with pytest.raises(CaloraError, match=re.escape(f"calibration summary+es: {message}")):
        fold(merged, replace(good, tensors=tensors))


def test_layers_of_two_shapes_cannot_share() -> None:
    merged = random_adapter({"layers.0.q_proj": (6, 5), "layers.1.q_proj": (4, 5)})
    message = re.escape("layers.1.q_proj is (4, 5), other q_proj modules are (6, 5): layers cannot share")
    with pytest.raises(CaloraError, match=message) as error:
        fresh_tensors(make_card("column-bias"), merged)
    assert error.value.hint == "calibrate with shared=layer"
    assert site_shapes(merged, make_card("column-bias", "layer")) == {
        "layers.0.q_proj": (6, 5),
        "layers.1.q_proj": (4, 5),
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": "red"}, "calibration.json: colour: "),
        ({"kind": "diagonal"}, "calibration.json: kind: "),
        ({"merge": {"start": "mean"}}, "calibration.json: merge.start: "),
    ],
)
def test_a_card_with_wrong_keys_is_refused_by_key(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    write_calibration(trained(make_card("row-scale"), random_adapter(SHAPES)), tmp_path)
    file = tmp_path / "calibration.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(CaloraError, match=message):
        read_calibration(tmp_path)


def test_a_tensor_of_no_site_is_named(tmp_path: Path) -> None:
    merged = random_adapter(SHAPES)
    good = trained(make_card("row-scale"), merged)
    write_calibration(replace(good, tensors={**good.tensors, "stray": np.ones(1, np.float32)}), tmp_path / "c")
    with pytest.raises(CaloraError, match="unexpected tensor stray"):
        read_calibration(tmp_path / "c")


@pytest.mark.parametrize("file", ["calibration.json", "calibration.safetensors"])
def test_a_missing_file_is_named(tmp_path: Path, file: str) -> None:
    write_calibration(trained(make_card("row-scale"), random_adapter(SHAPES)), tmp_path / "c")
    (tmp_path / "c" / file).unlink()
    with pytest.raises(CaloraError, match=f"{file} is missing"):
        read_calibration(tmp_path / "c")
