"""What stands in a folder, made ready to run."""

from pathlib import Path

import pytest

from calora.adapter import adapter_sha256, read_adapter, write_adapter
from calora.calibration import Calibration, CalibrationCard, fresh_tensors, write_calibration
from calora.errors import CaloraError
from calora.merging import Merge
from calora.ready import read_ready
from tests.conftest import assert_same_updates, random_adapter

SHAPES = {"layers.0.q_proj": (6, 5), "layers.0.up_proj": (8, 5)}


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """An adapter, and a calibration of it alone."""
    write_adapter(random_adapter(SHAPES, name="summary"), tmp_path / "summary", "float32")
    merged = Merge()([read_adapter(tmp_path / "summary")])
    card = CalibrationCard(
        kind="row-scale",
        rank=4,
        shared="kind",
        composition="summary",
        merge=Merge(),
        parents={"summary": adapter_sha256(tmp_path / "summary")},
        backbone="tiny",
        backbone_sha256="0" * 64,
    )
    write_calibration(Calibration(card, fresh_tensors(card, merged)), tmp_path / "calibration")
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
