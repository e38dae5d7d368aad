"""What would be ignored is refused, before anything is loaded."""

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
