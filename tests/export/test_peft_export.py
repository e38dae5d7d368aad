from pathlib import Path

import pytest

from calora.adapter import base_model_of
from calora.backbone import Backbone
from calora.errors import CaloraError
from calora.export import export_adapter, exporters, read_manifest
from calora.export.verification import verify_export
from tests.conftest import random_adapter
from tests.export.conftest import gentle

Pair = tuple[Backbone, Path]


def test_peft_gives_the_logits_of_the_folder(pair: Pair, tmp_path: Path) -> None:
    backbone, _ = pair
    adapter = gentle(backbone, 5)
    manifest = export_adapter(adapter, "peft", tmp_path / "peft", backbone.name, dtype="float32", rank=8)
    found = verify_export(tmp_path / "peft", backbone.name, adapter)
    assert [check for check in found.checks if not check.held] == []
    assert (manifest.rank_before, manifest.rank) == (5, 8)


def test_the_manifest_says_what_was_cut(pairs: dict[str, Pair], tmp_path: Path) -> None:
    backbone, file = pairs["llama"]
    export_adapter(random_adapter(backbone, rank=6), "gguf", tmp_path / "a.gguf", file, rank=2)
    manifest = read_manifest(tmp_path / "a.gguf")
    assert (manifest.rank_before, manifest.rank, manifest.architecture) == (6, 2, "llama")
    assert 0 < manifest.truncation_error < 1
    assert manifest.sha256.keys() == {"a.gguf"}
    assert (manifest.backbone, manifest.trained_on_sha256) == (str(file), None)


def test_the_folder_is_for_the_backbone_that_was_named(pairs: dict[str, Pair], tmp_path: Path) -> None:
    backbone, file = pairs["llama"]
    adapter = random_adapter(backbone, name="es")
    export_adapter(adapter, "peft", tmp_path / "peft", f"{backbone.name}:4bit")
    assert base_model_of(tmp_path / "peft") == backbone.name
    with pytest.warns(UserWarning, match="es was trained on other weights of this architecture"):
        manifest = export_adapter(adapter, "gguf", tmp_path / "a.gguf", file)
    assert (manifest.backbone, manifest.trained_on_sha256) == (str(file), backbone.sha256)


def test_what_cannot_be_is_told(pairs: dict[str, Pair], tmp_path: Path) -> None:
    backbone, file = pairs["llama"]
    adapter = random_adapter(backbone)
    assert list(exporters()) == ["gguf", "merged", "merged-gguf", "mlx", "peft"]
    with pytest.raises(CaloraError, match="unknown format 'onnx'"):
        export_adapter(adapter, "onnx", tmp_path / "a", file)
    with pytest.raises(CaloraError, match="gguf files have no bfloat16"):
        export_adapter(adapter, "gguf", tmp_path / "a.gguf", file, dtype="bfloat16")
    with pytest.raises(CaloraError, match=r"does not end in \.gguf"):
        export_adapter(adapter, "gguf", tmp_path / "a", file)
    with pytest.raises(CaloraError, match="does not say its backbone"):
        export_adapter(adapter, "gguf", tmp_path / "a.gguf")
    assert list(tmp_path.iterdir()) == []
