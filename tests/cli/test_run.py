"""What is not understood or would be ignored is refused, before anything is loaded."""

import io
from pathlib import Path

import pytest

from calora.adapter import write_adapter
from calora.backbone import Backbone
from tests.cli.conftest import Run
from tests.conftest import random_adapter


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["summary+es", "text.txt", "--adapter", "x"], "--adapter would be ignored: summary+es comes ready-made"),
        (
            ["summary+es", "text.txt", "--composition", "reply"],
            "--composition would be ignored: summary+es comes ready",
        ),
        (["bundle", "text.txt", "--adapter", "x"], "--adapter would be ignored: bundle is a bundle"),
        (["mine", "text.txt", "--adapter", "nowhere"], "nowhere would be ignored: mine is an adapter"),
    ],
)
def test_what_would_be_ignored_is_refused(
    calora: Run, llama: Backbone, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "text.txt").write_text("Ann: hello\nBob: hello")
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle/bundle.json").write_text("{}")
    write_adapter(random_adapter(llama, name="summary"), tmp_path / "mine")
    code, _, err = calora("run", *arguments)
    assert code == 2
    assert message in err


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_what_is_no_utf_8_is_refused(
    calora: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    raw = "Ann: ¿Qué tal?".encode("latin-1")
    stdin = io.TextIOWrapper(io.BytesIO(raw), encoding=encoding, errors="surrogateescape")
    monkeypatch.setattr("sys.stdin", stdin)
    code, _, err = calora("run", "nothing-here")
    assert code == 2
    assert "standard input cannot be read: 'utf-8' codec" in err
    (tmp_path / "text.txt").write_bytes(raw)
    code, _, err = calora("run", "nothing-here", "text.txt")
    assert code == 2
    assert "text.txt cannot be read: 'utf-8' codec" in err
