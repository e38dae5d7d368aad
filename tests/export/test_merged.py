import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calora.backbone import Backbone
from calora.errors import CaloraError
from calora.export import export_adapter
from calora.export.manifest import changed_files
from calora.export.packed import open_gguf, unpacked_gguf
from calora.export.probes import reference_logprobs
from calora.export.runtimes import llama_probe
from calora.serving.llama import LlamaServer
from tests.conftest import random_adapter
from tests.export.conftest import gentle

Pair = tuple[Backbone, Path]
IDS = list(range(3, 120))


def test_the_whole_model_in_llama_cpp_is_the_model_with_the_adapter(pair: Pair, tmp_path: Path) -> None:
    backbone, file = pair
    adapter = gentle(backbone, 5)
    export_adapter(adapter, "merged-gguf", tmp_path / "m.gguf", file, dtype="float32")
    with LlamaServer(tmp_path / "m.gguf", context=256, threads=1, exact=True) as server:
        probe = llama_probe(server, {}, IDS, 20)
    assert probe.distance(reference_logprobs(backbone, adapter, IDS, 20)) < 1e-3
    assert probe.distance(reference_logprobs(backbone, None, IDS, 20)) > 1e-2


def test_an_adapter_is_merged_into_the_values_of_a_packed_model(packed: Path, tmp_path: Path) -> None:
    import torch

    backbone = Backbone.load(str(packed), torch.float32)
    adapter = gentle(backbone, 5)
    export_adapter(adapter, "merged-gguf", tmp_path / "m.gguf", packed, dtype="float32")
    unpacked_gguf(tmp_path / "m.gguf", tmp_path / "exact.gguf")  # what was not adapted is packed still
    with LlamaServer(tmp_path / "exact.gguf", context=256, threads=1, exact=True) as server:
        probe = llama_probe(server, {}, IDS, 20)
    assert probe.distance(reference_logprobs(backbone, adapter, IDS, 20)) < 1e-3


@pytest.mark.parametrize("dtype", ["float16", "q8_0", "q5_0", "q4_0"])
def test_only_adapted_matrices_change_their_type(pairs: dict[str, Pair], dtype: str, tmp_path: Path) -> None:
    backbone, file = pairs["llama"]
    export_adapter(random_adapter(backbone), "merged-gguf", tmp_path / "m.gguf", file, dtype=dtype)
    kinds = {str(tensor.name): tensor.tensor_type.name for tensor in open_gguf(tmp_path / "m.gguf").tensors}
    assert kinds["blk.0.attn_q.weight"] == {"float16": "F16"}.get(dtype, dtype.upper())
    assert kinds["token_embd.weight"] == kinds["blk.0.attn_norm.weight"] == "F32"
    with LlamaServer(tmp_path / "m.gguf", context=64, threads=1):
        pass


def test_a_folder_of_the_whole_model_loads_as_a_backbone(pair: Pair, tmp_path: Path) -> None:
    import torch

    backbone, _ = pair
    adapter = gentle(backbone, 5)
    before = backbone.model.get_input_embeddings().weight.clone()
    export_adapter(adapter, "merged", tmp_path / "merged", backbone.name, dtype="float32")
    merged = Backbone.load(str(tmp_path / "merged"), torch.float32)
    np.testing.assert_allclose(
        reference_logprobs(merged, None, IDS, 20), reference_logprobs(backbone, adapter, IDS, 20), atol=1e-4
    )
    assert torch.equal(before, backbone.model.get_input_embeddings().weight)


def test_a_tokenizer_with_several_templates_has_a_folder_of_them(pairs: dict[str, Pair], tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    backbone, _ = pairs["llama"]
    own = tmp_path / "own"
    shutil.copytree(backbone.name, own)
    tokenizer: Any = AutoTokenizer.from_pretrained(own)
    tokenizer.chat_template = {"default": "{{ messages }}", "tool_use": "{{ tools }}"}
    tokenizer.save_pretrained(own)
    found = export_adapter(gentle(backbone, 5), "merged", tmp_path / "merged", own, dtype="float32")
    assert "additional_chat_templates/tool_use.jinja" in found.sha256
    assert changed_files(tmp_path / "merged", found) == []


def test_a_folder_of_the_whole_model_stops_in_transformers(pairs: dict[str, Pair], tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    backbone, _ = pairs["llama"]
    export_adapter(gentle(backbone, 5), "merged", tmp_path / "merged", backbone.name, dtype="float32")
    model: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    end = backbone.tokenizer.eos_token_id

    def ends_at_once(ids: Any, scores: Any) -> Any:
        return scores.index_fill(1, torch.tensor([end]), 1e4)

    answer = model.generate(torch.tensor([IDS[:8]]), max_new_tokens=5, logits_processor=[ends_at_once])
    assert answer[0, 8:].tolist() == [end]


def test_an_embedded_backbone_is_loaded_by_its_name(
    pairs: dict[str, Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, file = pairs["llama"]
    load, asked = Backbone.load, []

    def loaded(name: str, dtype: Any) -> Backbone:
        asked.append(name)
        return load(backbone.name, dtype)

    monkeypatch.setattr("calora.export.layout.embedded_gguf", lambda name: file)
    monkeypatch.setattr(Backbone, "load", loaded)
    export_adapter(gentle(backbone, 2), "merged", tmp_path / "merged", "smollm2-135m")
    assert asked == ["smollm2-135m"]


def test_a_folder_is_no_gguf(pairs: dict[str, Pair], tmp_path: Path) -> None:
    backbone, _ = pairs["llama"]
    with pytest.raises(CaloraError, match="is no GGUF file"):
        export_adapter(random_adapter(backbone), "merged-gguf", tmp_path / "m.gguf", backbone.name)
    assert list(tmp_path.iterdir()) == []
