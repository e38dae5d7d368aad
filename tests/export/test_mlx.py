import json
from pathlib import Path

import pytest

from calora.adapter import Adapter
from calora.backbone import Backbone
from calora.errors import CaloraError
from calora.export import export_adapter
from calora.export.verification import verify_export
from tests.conftest import random_adapter
from tests.export.conftest import gentle


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "stablelm", "gemma3"])
def test_mlx_gives_the_logits_of_the_folder(
    pairs: dict[str, tuple[Backbone, Path]], architecture: str, tmp_path: Path
) -> None:
    pytest.importorskip("mlx_lm", reason="MLX-LM is not installed")
    backbone, _ = pairs[architecture]
    adapter = gentle(backbone, 5)
    export_adapter(adapter, "mlx", tmp_path / "mlx", backbone.name, dtype="float32", rank=8)
    found = verify_export(tmp_path / "mlx", backbone.name, adapter)
    assert [check for check in found.checks if not check.held] == []


def test_the_scale_is_written_out_and_the_factors_are_transposed(
    pairs: dict[str, tuple[Backbone, Path]], tmp_path: Path
) -> None:
    from safetensors.numpy import load_file

    backbone, _ = pairs["llama"]
    export_adapter(random_adapter(backbone, rank=3), "mlx", tmp_path / "mlx", backbone.name)
    config = json.loads((tmp_path / "mlx/adapter_config.json").read_text())
    assert config["num_layers"] == 2
    assert config["lora_parameters"]["scale"] == 1.0
    assert "self_attn.q_proj" in config["lora_parameters"]["keys"]
    tensors = load_file(tmp_path / "mlx/adapters.safetensors")
    out, inside = backbone.targets["model.layers.1.mlp.up_proj"]
    assert tensors["model.layers.1.mlp.up_proj.lora_a"].shape == (inside, 3)
    assert tensors["model.layers.1.mlp.up_proj.lora_b"].shape == (3, out)


def test_layers_that_differ_are_refused(pairs: dict[str, tuple[Backbone, Path]], tmp_path: Path) -> None:
    backbone, _ = pairs["llama"]
    modules = dict(random_adapter(backbone).modules)
    del modules["model.layers.1.mlp.up_proj"]
    with pytest.raises(CaloraError, match="13 modules, not 7 in each of 2 layers"):
        export_adapter(Adapter(modules), "mlx", tmp_path / "mlx", backbone.name)
    assert not (tmp_path / "mlx").exists()
