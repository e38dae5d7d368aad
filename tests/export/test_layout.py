"""What an exporter knows of a backbone, whatever it is named by."""

import json
from pathlib import Path
from typing import Any

import pytest

from calora.backbone import Backbone
from calora.errors import CaloraError
from calora.export import read_layout
from tests.export.tiny_gguf import write_tiny_gguf

Pair = tuple[Backbone, Path]
MISTRAL = {
    "model_type": "mistral",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 16,
}
# What the config.json of Gemma 3 4B holds of its text model.
GEMMA = {"model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34}


def folder_of(config: dict[str, Any], folder: Path) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def test_a_folder_and_its_gguf_file_are_one_layout(pair: Pair) -> None:
    backbone, file = pair
    one, other = read_layout(backbone.name), read_layout(file)
    assert (one.architecture, one.layers, one.heads, one.kv_heads) == (
        other.architecture,
        other.layers,
        other.heads,
        other.kv_heads,
    )
    assert one.shapes == other.shapes == backbone.targets


def test_heads_that_are_told_layer_by_layer_are_refused(pairs: dict[str, Pair], tmp_path: Path) -> None:
    write_tiny_gguf(
        pairs["llama"][0], "llama", tmp_path / "layers.gguf", lambda writer: writer.add_head_count_kv([2, 1])
    )
    with pytest.raises(CaloraError, match="tells the heads of each layer apart"):
        read_layout(tmp_path / "layers.gguf")


def test_heads_that_a_config_leaves_out_are_those_of_transformers(tmp_path: Path) -> None:
    from transformers import Gemma3TextConfig, MistralConfig

    for name, config, known in (
        ("mistral", MISTRAL, MistralConfig(**MISTRAL)),
        ("gemma", GEMMA, Gemma3TextConfig(**GEMMA)),
    ):
        found = read_layout(folder_of(config, tmp_path / name))
        assert (found.heads, found.kv_heads) == (known.num_attention_heads, known.num_key_value_heads)


def test_a_multi_modal_folder_is_refused(tmp_path: Path) -> None:
    folder = folder_of({"model_type": "gemma3", "text_config": GEMMA}, tmp_path / "both")
    with pytest.raises(CaloraError, match="is of a multi-modal gemma3") as error:
        read_layout(folder)
    assert "language model alone" in str(error.value.hint)


def test_the_hub_is_asked_for_a_config_alone(pairs: dict[str, Pair], monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, _ = pairs["qwen2"]
    asked = []

    def given(name: str, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((name, revision, allow_patterns))
        return backbone.name

    monkeypatch.setattr("huggingface_hub.snapshot_download", given)
    layout = read_layout("Qwen/Qwen2.5-0.5B@main:4bit")
    assert (layout.name, layout.path) == ("Qwen/Qwen2.5-0.5B@main", Path(backbone.name))
    assert layout.shapes == backbone.targets
    assert asked == [("Qwen/Qwen2.5-0.5B", "main", ["config.json"])]


def test_packed_weights_have_the_layout_of_plain_ones(pairs: dict[str, Pair], monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, file = pairs["llama"]
    monkeypatch.setattr("calora.export.layout.embedded_gguf", lambda name: file)
    for packed, plain in (
        (f"{file}:packed", str(file)),
        (f"{backbone.name}:8bit", backbone.name),
        ("smollm2-135m:4bit", "smollm2-135m"),
    ):
        layout = read_layout(packed)
        assert (layout.name, layout.shapes) == (plain, backbone.targets)


def test_what_is_nowhere_is_told(tmp_path: Path) -> None:
    with pytest.raises(CaloraError, match="is no embedded name, no file or folder"):
        read_layout(tmp_path / "nothing")
    with pytest.raises(CaloraError, match=r"config\.json is missing"):
        read_layout(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(CaloraError, match=r"config\.json is missing"):
        read_layout(tmp_path / "file")
