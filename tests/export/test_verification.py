"""That each check of an exported file can fail."""

from pathlib import Path
from typing import Any

import pytest

from calora.adapter import Adapter, Factors
from calora.backbone import Backbone
from calora.export import export_adapter, runtimes
from calora.export.verification import verify_export
from tests.conftest import random_adapter
from tests.export.test_gguf import gentle

Pair = tuple[Backbone, Path]


def test_a_file_whose_rows_are_not_turned_is_found_out(
    pairs: dict[str, Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, file = pairs["llama"]
    adapter = random_adapter(backbone)
    with monkeypatch.context() as patched:
        patched.setattr("calora.export.gguf.permuted_rows", lambda values, heads, reverse=False: values)
        export_adapter(adapter, "gguf", tmp_path / "a.gguf", file, dtype="float32")
    found = {check.name: check.held for check in verify_export(tmp_path / "a.gguf", str(file), adapter).checks}
    assert found["it changes the logits"]
    assert not found["storing it cost little"]


def test_an_adapter_that_does_nothing_is_found_out(pairs: dict[str, Pair], tmp_path: Path) -> None:
    backbone, file = pairs["qwen2"]
    nothing = Adapter({name: Factors(part.a, 0 * part.b) for name, part in random_adapter(backbone).modules.items()})
    export_adapter(nothing, "gguf", tmp_path / "a.gguf", file, dtype="float32")
    found = verify_export(tmp_path / "a.gguf", str(file))
    assert [check.name for check in found.checks if not check.held] == ["it changes the logits"]
    assert not found.held


def test_a_file_that_llama_cpp_reads_otherwise_than_calora_is_found_out(
    pairs: dict[str, Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, file = pairs["llama"]
    export_adapter(gentle(backbone, 3), "gguf", tmp_path / "a.gguf", file, dtype="float32")
    read = runtimes.read_gguf_adapter

    def stronger(path: Path, layout: Any) -> Adapter:
        return Adapter({name: part.scaled(1.3) for name, part in read(path, layout).modules.items()})

    monkeypatch.setattr(runtimes, "read_gguf_adapter", stronger)
    found = verify_export(tmp_path / "a.gguf", str(file))
    failed = [check.name for check in found.checks if not check.held]
    assert failed == ["the logits are the reference's", "so are the likeliest tokens"]


def test_a_runtime_that_does_not_switch_it_off_is_found_out(
    pairs: dict[str, Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, file = pairs["qwen2"]
    export_adapter(gentle(backbone, 3), "gguf", tmp_path / "a.gguf", file, dtype="float32")
    ask = runtimes.llama_probe

    def never_quite_off(server: Any, scales: dict[str, float], *text: Any) -> Any:
        return ask(server, {name: scale or 0.01 for name, scale in scales.items()}, *text)

    monkeypatch.setattr(runtimes, "llama_probe", never_quite_off)
    found = verify_export(tmp_path / "a.gguf", str(file))
    assert [check.name for check in found.checks if not check.held] == ["scale 0 is the backbone"]
