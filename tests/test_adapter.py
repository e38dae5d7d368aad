import copy
import json
import re
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calora.adapter import Adapter, AdapterCard, Factors, adapter_sha256, module_kind, read_adapter, write_adapter
from calora.backbone import Backbone
from calora.errors import CaloraError
from calora.storage import read_tensors, sha256_of
from tests.conftest import adapter_logits, assert_near, assert_same_updates, logits, peft_logits, random_adapter

SHAPES = {"model.layers.0.self_attn.q_proj": (6, 5), "model.layers.0.mlp.up_proj": (8, 5)}
Q = "base_model.model.model.layers.0.self_attn.q_proj"
PREFIX = "base_model.model."


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_adapter(random_adapter(SHAPES), tmp_path / "adapter", "float32")
    return tmp_path / "adapter"


def change_config(folder: Path, **keys: Any) -> None:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | keys))


def change_tensors(folder: Path, **tensors: Any) -> None:
    """Replace, add or (None) drop tensors whose names follow `base_model.model.`."""
    from safetensors.numpy import save_file

    file = folder / "adapter_model.safetensors"
    changed = read_tensors(file) | {PREFIX + name: tensor for name, tensor in tensors.items()}
    save_file({name: tensor for name, tensor in changed.items() if tensor is not None}, file)


def factors(seed: int, out: int, inside: int, rank: int) -> Factors:
    return random_adapter({"m": (out, inside)}, seed, rank).modules["m"]


def test_float32_comes_back_to_the_bit(tmp_path: Path) -> None:
    adapter = random_adapter(SHAPES, name="summary")
    write_adapter(adapter, tmp_path / "a", "float32")
    found = read_adapter(tmp_path / "a")
    assert found.card == adapter.card
    assert list(found.modules) == sorted(SHAPES)
    for module, expected in adapter.modules.items():
        assert np.array_equal(found.modules[module].a, expected.a)
        assert np.array_equal(found.modules[module].b, expected.b)


def test_bfloat16_is_what_is_stored_and_comes_back_rounded_once(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    adapter = random_adapter(SHAPES)
    write_adapter(adapter, tmp_path / "a")
    stored = load_file(tmp_path / "a" / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.bfloat16}
    found = read_adapter(tmp_path / "a")
    for module, expected in adapter.modules.items():
        rounded = torch.from_numpy(expected.a).to(torch.bfloat16).float().numpy()
        assert np.array_equal(found.modules[module].a, rounded)
        assert not np.array_equal(found.modules[module].a, expected.a)
    write_adapter(found, tmp_path / "b")
    assert adapter_sha256(tmp_path / "b") == adapter_sha256(tmp_path / "a")


def test_sha256_is_that_of_the_tensors(folder: Path) -> None:
    assert adapter_sha256(folder) == sha256_of(folder / "adapter_model.safetensors")


def test_ranks_are_padded_to_one(tmp_path: Path) -> None:
    q, up = SHAPES
    adapter = Adapter({q: factors(0, 6, 5, 2), up: factors(1, 8, 5, 4)})
    write_adapter(adapter, tmp_path / "a", "float32")
    found = read_adapter(tmp_path / "a")
    assert [found.modules[module].rank for module in (q, up)] == [4, 4]
    assert np.array_equal(found.modules[q].update(), adapter.modules[q].update())


def test_peft_gives_the_same_logits(backbone: Backbone, tmp_path: Path) -> None:
    adapter = random_adapter(backbone)
    write_adapter(adapter, tmp_path / "a", "float32")
    ours = adapter_logits(backbone, adapter)
    assert_near(ours, peft_logits(backbone, tmp_path / "a"))
    assert np.abs(ours - adapter_logits(backbone, None)).max() > 0.1


def test_peft_gives_the_same_logits_in_stored_precision(backbone: Backbone, tmp_path: Path) -> None:
    write_adapter(random_adapter(backbone), tmp_path / "a")
    assert_near(adapter_logits(backbone, read_adapter(tmp_path / "a")), peft_logits(backbone, tmp_path / "a"))


def test_peft_adds_nothing_where_only_some_layers_have_an_update(llama: Backbone, tmp_path: Path) -> None:
    shapes = {name: shape for name, shape in llama.targets.items() if ".1." in name or name.endswith("q_proj")}
    adapter = random_adapter(shapes)
    write_adapter(adapter, tmp_path / "a", "float32")
    assert_near(adapter_logits(llama, adapter), peft_logits(llama, tmp_path / "a"))


@pytest.mark.parametrize(
    "settings",
    [
        {"r": 4, "lora_alpha": 16},
        {"r": 4, "lora_alpha": 1, "use_rslora": True},
        {"r": 4, "lora_alpha": 4, "alpha_pattern": {"q_proj": 12, r"layers\.1\.mlp\.up_proj": 1}},
        {"r": 4, "lora_alpha": 2, "rank_pattern": {"down_proj": 2}},
        {"r": 4, "lora_alpha": 2, "use_rslora": True, "rank_pattern": {"v_proj": 1}, "alpha_pattern": {"v_proj": 3}},
    ],
    ids=lambda settings: "-".join(settings),
)
def test_adapters_that_peft_wrote_have_their_scale_folded(
    llama: Backbone, tmp_path: Path, settings: dict[str, Any]
) -> None:
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    config = LoraConfig(
        target_modules=["q_proj", "v_proj", "up_proj", "down_proj"], init_lora_weights=False, **settings
    )
    model = get_peft_model(copy.deepcopy(llama.model), config).eval()
    model.save_pretrained(str(tmp_path))
    found = read_adapter(tmp_path)
    assert found.card is None
    assert len(found.modules) == 8
    assert_near(adapter_logits(llama, found), logits(model, llama.tokenizer))


# PEFT's settings that are read, or say where adapters go, how they are trained or what they begin as.
READ = "alpha_pattern base_model_name_or_path init_lora_weights lora_alpha use_rslora".split()
HARMLESS = """
    auto_mapping corda_config ensure_weight_tying eva_config exclude_modules fan_in_fan_out inference_mode
    layers_pattern layers_to_transform loftq_config lora_dropout lora_ga_config megatron_config megatron_core
    peft_version qalora_group_size r rank_pattern revision runtime_config target_modules task_type
    velora_config
""".split()


def test_what_peft_may_say_beside_plain_lora_is_refused(folder: Path) -> None:
    """A setting that a new PEFT brings fails here until it is known whether B A is still all that there is."""
    from peft import LoraConfig

    for name in {field.name for field in fields(LoraConfig)} - {*READ, *HARMLESS}:
        changed = shutil.copytree(folder, folder.with_name(name))
        change_config(changed, **{name: "more"})
        with pytest.raises(CaloraError, match=f"{name} (=|is) 'more'") as error:
            read_adapter(changed)
        assert str(changed) in str(error.value)


@pytest.mark.parametrize("start", ["pissa", "pissa_niter_4", "corda", "olora", "loftq", "lora_ga"])
def test_a_start_that_is_taken_off_the_backbone_is_refused(folder: Path, start: str) -> None:
    change_config(folder, init_lora_weights=start)
    with pytest.raises(CaloraError, match=f"init_lora_weights = '{start}', a start that is taken off the backbone"):
        read_adapter(folder)


@pytest.mark.parametrize("start", [True, False, "gaussian", "eva", "orthogonal"])
def test_a_start_beside_the_backbone_is_plain_lora(folder: Path, start: bool | str) -> None:
    change_config(folder, init_lora_weights=start)
    read_adapter(folder)


@pytest.mark.parametrize(("half", "name"), [("A", "lora_A"), ("B", "lora_B")])
def test_a_missing_half_is_named(folder: Path, half: str, name: str) -> None:
    change_tensors(folder, **{f"model.layers.0.self_attn.q_proj.lora_{half}.weight": None})
    with pytest.raises(CaloraError, match=f"self_attn.q_proj has no {name}"):
        read_adapter(folder)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_named(folder: Path, value: float) -> None:
    name = "model.layers.0.mlp.up_proj.lora_A.weight"
    change_tensors(folder, **{name: np.full((3, 5), value, np.float32)})
    with pytest.raises(CaloraError, match=f"tensor {PREFIX}{name} holds NaN or infinite"):
        read_adapter(folder)


def test_so_are_those_of_an_adapter_that_was_made_here() -> None:
    pair = factors(0, 6, 5, 2)
    for changed in (Factors(np.float32(np.nan) * pair.a, pair.b), Factors(pair.a, np.float32(np.inf) * pair.b)):
        with pytest.raises(CaloraError, match=r"adapter: layers\.0\.up_proj holds NaN or infinite values"):
            Adapter({"layers.0.q_proj": pair, "layers.0.up_proj": changed})


def test_halves_of_two_ranks_are_refused(folder: Path) -> None:
    change_tensors(folder, **{"model.layers.0.self_attn.q_proj.lora_B.weight": np.ones((6, 2), np.float32)})
    with pytest.raises(CaloraError, match=re.escape("q_proj has A (3, 5) and B (6, 2)")):
        read_adapter(folder)


def test_factors_of_rank_0_are_named(folder: Path) -> None:
    name = "model.layers.0.self_attn.q_proj"
    changed = {
        f"{name}.lora_A.weight": np.zeros((0, 5), np.float32),
        f"{name}.lora_B.weight": np.zeros((6, 0), np.float32),
    }
    change_tensors(folder, **changed)
    with pytest.raises(CaloraError, match=r"q_proj has an empty A or B"):
        read_adapter(folder)


def test_a_tensor_that_is_there_twice_is_named(folder: Path) -> None:
    from safetensors.numpy import save_file

    file = folder / "adapter_model.safetensors"
    tensors = read_tensors(file)
    key = next(key for key in tensors if key.endswith(".lora_B.weight"))
    save_file(tensors | {key.removeprefix(PREFIX): np.zeros_like(tensors[key])}, file)
    with pytest.raises(CaloraError, match="has two lora_B"):
        read_adapter(folder)


def test_names_of_layers_and_of_others_may_stand_at_one_place(tmp_path: Path) -> None:
    names = ["m.x.l", "m.10.l", "m.2.l"]
    write_adapter(Adapter({name: factors(0, 4, 3, 2) for name in names}), tmp_path / "both", "float32")
    assert list(read_adapter(tmp_path / "both").modules) == ["m.x.l", "m.2.l", "m.10.l"]


def test_a_tensor_that_is_no_lora_is_named(folder: Path) -> None:
    change_tensors(folder, **{"model.layers.0.self_attn.q_proj.lora_magnitude_vector": np.ones(6, np.float32)})
    with pytest.raises(CaloraError, match=r"unexpected tensor .*lora_magnitude_vector"):
        read_adapter(folder)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99])
def test_truncated_tensors_are_refused_by_name(folder: Path, share: float) -> None:
    file = folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    with pytest.raises(CaloraError, match=r"adapter_model.safetensors is not a whole safetensors file"):
        read_adapter(folder)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(CaloraError, match=f"{name} is missing"):
        read_adapter(folder)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"peft_type": "LORA"}', '{"peft_type": "LORA", "lora_alpha": "2"}', "\udcff"]
)
def test_a_config_that_is_none_is_refused_by_name(folder: Path, text: str) -> None:
    (folder / "adapter_config.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(CaloraError, match=str(folder)):
        read_adapter(folder)


def test_an_unknown_key_in_the_card_is_named(tmp_path: Path) -> None:
    write_adapter(random_adapter(SHAPES, name="es"), tmp_path / "a")
    card = tmp_path / "a" / "calora.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | {"colour": "red"}))
    with pytest.raises(CaloraError, match=r"calora.json: colour: "):
        read_adapter(tmp_path / "a")


def test_an_adapter_without_modules_is_refused_by_name() -> None:
    card = AdapterCard(name="es", backbone="tiny", backbone_sha256="0")
    with pytest.raises(CaloraError, match="es has no modules"):
        Adapter({}, card)


sizes = st.integers(1, 7)


@given(st.integers(0, 1000), sizes, sizes, sizes)
def test_svd_and_norm_are_those_of_the_dense_update(seed: int, out: int, inside: int, rank: int) -> None:
    pair = factors(seed, out, inside, rank)
    dense = pair.update().astype(np.float64)
    u, s, vt = pair.svd()
    np.testing.assert_allclose(u * s @ vt, dense, atol=1e-5)
    np.testing.assert_allclose(s, np.linalg.svd(dense, compute_uv=False)[: len(s)], atol=1e-5)
    for basis in (u, vt.T):
        np.testing.assert_allclose(basis.T @ basis, np.eye(len(s)), atol=1e-5)
    assert pair.norm() == pytest.approx(np.linalg.norm(dense), rel=1e-4, abs=1e-6)


@given(st.integers(0, 1000), sizes, st.integers(0, 5))
def test_padding_changes_no_update(seed: int, rank: int, extra: int) -> None:
    pair = factors(seed, 6, 5, rank)
    padded = pair.padded(rank + extra)
    assert padded.rank == rank + extra
    assert padded.shape == pair.shape
    np.testing.assert_allclose(padded.update(), pair.update(), atol=1e-6)


def test_norm_and_parameters_are_over_all_modules() -> None:
    adapter = random_adapter(SHAPES, rank=2)
    assert adapter.norm() == pytest.approx(
        np.sqrt(sum(np.linalg.norm(pair.update()) ** 2 for pair in adapter.modules.values()))
    )
    assert adapter.parameters == 2 * (6 + 5) + 2 * (8 + 5)
    assert adapter.rank == 2
    assert {module_kind(module) for module in SHAPES} == {"q_proj", "up_proj"}


def test_a_pattern_is_of_a_names_end_alone(folder: Path) -> None:
    before = read_adapter(folder)
    change_config(folder, alpha_pattern={"model.layers.0": 99, "proj": 98})
    assert_same_updates(read_adapter(folder), before)
