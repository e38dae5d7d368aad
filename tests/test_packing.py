"""Weights that stay packed; bitsandbytes is no part of the test environment, so that what needs it runs by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from calora.backbone import Backbone
from calora.backbone_files import backbone_sha256
from calora.errors import CaloraError
from calora.packing import loading_options, packed_sha256, split_packing
from tests.conftest import adapter_logits, random_adapter
from tests.training.helpers import adapt, bits, calibrate


def test_a_name_says_how_its_weights_stay() -> None:
    assert split_packing("smollm2-135m:4bit") == ("smollm2-135m", "4bit")
    assert split_packing("owner/name@main:8bit") == ("owner/name@main", "8bit")
    assert split_packing("a.gguf:packed") == ("a.gguf", "packed")
    assert split_packing("C:some/folder") == ("C:some/folder", None)
    assert packed_sha256("ab", None) == "ab"
    assert len({packed_sha256("ab", packing) for packing in (None, "4bit", "8bit")}) == 3


def test_what_is_missing_is_said(llama: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "bitsandbytes", None)
    with pytest.raises(CaloraError, match="need bitsandbytes"):
        Backbone.load(f"{llama.name}:4bit")
    with pytest.raises(CaloraError, match="is for a GGUF file"):
        Backbone.load(f"{llama.name}:packed")
    monkeypatch.setattr("transformers.utils.import_utils.is_kernels_available", lambda *given: False)
    with pytest.raises(CaloraError, match="packed GGUF weights need `kernels`"):
        loading_options("packed", True, torch.float32)


@pytest.mark.parametrize("packing", ["4bit", "8bit"])
def test_an_adapter_and_a_calibration_are_trained_beside_packed_weights(
    llama: Backbone, rows: list[dict[str, Any]], tmp_path: Path, packing: str
) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    config = LlamaConfig.from_pretrained(llama.name)
    config.update({"hidden_size": 64, "intermediate_size": 128, "head_dim": 16})  # 4 bits are packed in blocks of 64
    LlamaForCausalLM(config).save_pretrained(tmp_path / "wide")
    llama.tokenizer.save_pretrained(tmp_path / "wide")
    wide = Backbone.load(str(tmp_path / "wide"), torch.float32)
    backbone = Backbone.load(f"{wide.name}:{packing}", torch.float32)
    assert backbone.sha256 == backbone_sha256(backbone.name) != wide.sha256
    assert backbone.targets == wide.targets
    plain, packed = adapter_logits(wide, None), adapter_logits(backbone, None)
    assert 0 < np.abs(plain - packed).max() < np.abs(plain).max()
    before = bits(backbone)
    adapter = adapt(backbone, rows[:10], tmp_path / "adapter")
    calibration = calibrate(backbone, rows[:10], tmp_path / "calibration")
    for card in (adapter.card, calibration.card):
        assert card
        losses = [entry["eval_loss"] for entry in card.training["validation"]]
        assert losses[-1] < losses[0] - 0.01
    assert bits(backbone) == before
    assert not np.array_equal(adapter_logits(backbone, random_adapter(backbone)), packed)
