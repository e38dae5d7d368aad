"""What stands in a folder, made ready to run."""

from pathlib import Path

import pytest

from calora.adapter import write_adapter
from calora.errors import CaloraError
from calora.ready import read_ready
from tests.conftest import assert_same_updates, random_adapter, write_fresh_calibration

SHAPES = {"layers.0.q_proj": (6, 5), "layers.0.up_proj": (8, 5)}


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """An adapter, and a calibration of it alone."""
    write_adapter(random_adapter(SHAPES, name="summary"), tmp_path / "summary", "float32")
    write_fresh_calibration({"summary": tmp_path / "summary"}, tmp_path / "calibration", kind="row-scale")
    return tmp_path / "summary", tmp_path / "calibration"


def test_parents_come_from_folders_or_the_hub(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    adapter, calibration = folders
    asked: list[str] = []

    def fetched(name: str, **given: object) -> str:
        asked.append(name)
        return str(adapter)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetched)
    from_folder, from_hub = read_ready(calibration, [adapter]), read_ready(calibration, ["owner/name"])
    assert asked == ["owner/name"]
    assert_same_updates(from_hub, from_folder)


def test_parents_of_an_adapter_are_refused(folders: tuple[Path, Path]) -> None:
    adapter, _ = folders
    assert read_ready(adapter).rank == 3
    with pytest.raises(CaloraError, match=f"nowhere would be ignored: {adapter} is an adapter"):
        read_ready(adapter, ["nowhere"])
