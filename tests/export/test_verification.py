"""That each check of an exported file can fail."""

from pathlib import Path
from typing import Any

import pytest

from calora.adapter import Adapter, Factors
from calora.backbone import Backbone
from calora.errors import CaloraError
from calora.export import export_adapter, runtimes
from calora.export.manifest import changed_files, manifest_file
from calora.export.verification import verify_export
from tests.conftest import random_adapter
from tests.export.conftest import gentle

Pair = tuple[Backbone, Path]


@pytest.fixture
def exported(pairs: dict[str, Pair], tmp_path: Path) -> tuple[Path, str]:
    """A file that is as it should be, and its backbone's."""
    backbone, file = pairs["llama"]
    export_adapter(gentle(backbone, 3), "gguf", tmp_path / "a.gguf", file, dtype="float32")
    return tmp_path / "a.gguf", str(file)


def failed(file: Path, backbone: str, adapter: Adapter | None = None) -> list[str]:
    """The checks of an exported file that do not hold."""
    found = verify_export(file, backbone, adapter)
    names = [check.name for check in found.checks if not check.held]
    assert found.held == (not names)
    return names


def test_a_file_whose_rows_are_not_turned_is_found_out(
    pairs: dict[str, Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, file = pairs["llama"]
    adapter = random_adapter(backbone)
    with monkeypatch.context() as patched:
        patched.setattr("calora.export.gguf.permuted_rows", lambda values, heads, reverse=False: values)
        export_adapter(adapter, "gguf", tmp_path / "a.gguf", file, dtype="float32")
    names = failed(tmp_path / "a.gguf", str(file), adapter)
    assert "storing it cost little" in names
    assert "it changes the logits" not in names


def test_an_adapter_that_does_nothing_is_found_out(pairs: dict[str, Pair], tmp_path: Path) -> None:
    backbone, file = pairs["qwen2"]
    nothing = Adapter({name: Factors(part.a, 0 * part.b) for name, part in random_adapter(backbone).modules.items()})
    export_adapter(nothing, "gguf", tmp_path / "a.gguf", file, dtype="float32")
    assert failed(tmp_path / "a.gguf", str(file)) == ["it changes the logits"]


def test_what_is_right_has_no_check_that_fails(exported: tuple[Path, str]) -> None:
    assert failed(*exported) == []


def test_a_file_that_llama_cpp_reads_otherwise_than_calora_is_found_out(
    exported: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = runtimes.read_gguf_adapter

    def stronger(path: Path, layout: Any) -> Adapter:
        return Adapter({name: part.scaled(1.3) for name, part in read(path, layout).modules.items()})

    monkeypatch.setattr(runtimes, "read_gguf_adapter", stronger)
    assert failed(*exported) == ["the logits are the reference's", "so are the likeliest tokens"]


def test_a_runtime_that_does_not_switch_it_off_is_found_out(
    exported: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = runtimes.llama_probe

    def never_quite_off(server: Any, scales: dict[str, float], *text: Any) -> Any:
        return ask(server, {name: scale or 0.01 for name, scale in scales.items()}, *text)

    monkeypatch.setattr(runtimes, "llama_probe", never_quite_off)
    assert failed(*exported) == ["scale 0 is the backbone"]


def test_another_file_than_its_manifest_tells_of_is_found_out(
    exported: tuple[Path, str], pairs: dict[str, Pair], tmp_path: Path
) -> None:
    file, backbone = exported
    export_adapter(random_adapter(pairs["llama"][0], seed=8), "gguf", tmp_path / "b.gguf", backbone, dtype="float32")
    (tmp_path / "b.gguf").replace(file)
    assert "it is what was exported" in failed(file, backbone)


def test_what_changed_in_a_folder_is_named(pairs: dict[str, Pair], tmp_path: Path) -> None:
    backbone, _ = pairs["llama"]
    manifest = export_adapter(gentle(backbone, 3), "peft", tmp_path / "a", backbone.name)
    assert changed_files(tmp_path / "a", manifest) == []
    (tmp_path / "a/adapter_config.json").unlink()
    (tmp_path / "a/README.md").write_text("What lies beside them is nobody's.")
    assert changed_files(tmp_path / "a", manifest) == ["adapter_config.json"]


def test_a_manifest_has_a_place_beside_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert manifest_file(Path(".")) == manifest_file(tmp_path)
    assert manifest_file(Path("a.gguf")) == tmp_path.resolve() / "a.gguf.manifest.json"


def test_what_cannot_be_verified_is_told(exported: tuple[Path, str], pairs: dict[str, Pair], tmp_path: Path) -> None:
    file, backbone = exported
    for nothing in (tmp_path, tmp_path / "nothing.gguf"):
        with pytest.raises(CaloraError, match="is no exported adapter"):
            verify_export(nothing, backbone)
    with pytest.raises(CaloraError, match=r"llama is no GGUF file, and llama\.cpp loads no other"):
        verify_export(file, pairs["llama"][0].name)
    manifest_file(file).unlink()
    with pytest.raises(CaloraError, match="has no manifest beside it"):
        verify_export(file)
    assert failed(file, backbone) == []
