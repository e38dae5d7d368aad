"""From one's own data to an answer, command by command, on a tiny backbone."""

import io
import json
from pathlib import Path

import pytest

from calora.adapter import read_adapter, write_adapter
from calora.backbone import Backbone
from calora.bench.cells import read_cell
from calora.calibration import read_calibration
from calora.merging import Merge
from calora.storage import alone_in
from calora.training.settings import TrainingSettings
from tests.cli.conftest import Run
from tests.conftest import random_adapter

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:1 of 12 examples:UserWarning")]
DIALOGUE = "Ann: Could you call me about the concert tonight?\nBob: Of course."


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Pairs of one's own."""
    file = tmp_path / "mine.jsonl"
    rows = [{"text": f"Ann: Shall we meet at {hour}?\nBob: Yes.", "target": f"A las {hour}."} for hour in range(1, 13)]
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return file


@pytest.fixture
def trained(calora: Run, llama: Backbone, data: Path) -> list[str]:
    """Two adapters, and the options that name data and backbone."""
    given = ["--data", str(data), "--epochs", "1"]
    for task in ("summary", "es"):
        code, _, err = calora("train", task, task, "--backbone", llama.name, "--rank", 4, *given)
        assert code == 0, err
        assert f"wrote {task}: " in err
    return given


@pytest.mark.filterwarnings("ignore:the text has:UserWarning")  # what a tiny backbone says is long
def test_train_calibrate_run_and_evaluate(
    calora: Run, trained: list[str], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, err = calora("calibrate", "summary+es", "summary", "es", "--out", "both", "--fold", "folded", *trained)
    assert code == 0, err
    assert not list(tmp_path.glob(".*")), "checkpoints are removed"
    parents = ["--adapter", "summary", "--adapter", "es"]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(DIALOGUE.encode())))
    code, spoken, err = calora("run", "both", *parents, "--max-tokens", 8)
    assert code == 0, err
    (tmp_path / "dialogue.txt").write_text(DIALOGUE, encoding="utf-8")
    code, folded, _ = calora("run", "folded", "dialogue.txt", "--max-tokens", 8)
    assert (code, folded) == (0, spoken), "the folded adapter says what the calibration on its parents does"
    few = ["--data", data, "--limit", 3]
    code, _, err = calora("evaluate", "summary+es", "both", *parents, *few, "--out", "scored")
    assert code == 0, err
    (file,) = (tmp_path / "scored/cells").iterdir()
    cell = read_cell(file)
    assert (cell.n, cell.costs.parameters) == (3, read_calibration(tmp_path / "both").parameters)
    code, _, err = calora("evaluate", "summary+es", *parents, *few, "--multi-step")
    assert code == 0, err


def test_the_options_of_a_training_are_what_it_is_made_with(calora: Run, llama: Backbone, data: Path) -> None:
    for seed, name in enumerate(("summary", "es")):
        write_adapter(random_adapter(llama, seed, name=name), name)
    common = ["--backbone", llama.name, "--data", data, "--epochs", 1]
    options = ["--kind", "low-rank", "--rank", 2, "--shared", "layer", "--start", "product", "--strengths", "0.7,0.9"]
    training = ["--learning-rate", 3e-3, "--batch-size", 5, "--seed", 7]
    expected = TrainingSettings(learning_rate=3e-3, epochs=1, batch_size=5, seed=7).model_dump()
    code, _, err = calora("calibrate", "summary+es", "summary", "es", "--out", "both", *common, *options, *training)
    assert code == 0, err
    card = read_calibration("both").card
    assert (card.kind, card.rank, card.shared) == ("low-rank", 2, "layer")
    assert card.merge == Merge(start="product", strengths=(0.7, 0.9))
    assert card.training["settings"] == expected
    code, _, err = calora("train", "es", "other", "--rank", 2, *common, *training)
    assert code == 0, err
    other = read_adapter("other")
    assert other.card
    assert (other.rank, other.card.training["settings"]) == (2, expected)


def test_what_no_lora_can_hold_runs_as_it_is_and_is_not_exported(
    calora: Run, trained: list[str], tmp_path: Path
) -> None:
    code, _, err = calora(
        "calibrate", "summary+es", "summary", "es", "--out", "both", "--kind", "output-bias", *trained
    )
    assert code == 0, err
    (tmp_path / "dialogue.txt").write_text(DIALOGUE, encoding="utf-8")
    parents = ["--adapter", "summary", "--adapter", "es"]
    code, _, err = calora("run", "both", "dialogue.txt", *parents, "--max-tokens", 4)
    assert code == 0, err
    code, _, err = calora("export", "both", "both.gguf", *parents)
    assert code == 2
    assert "cannot become one adapter" in err
    code, _, err = calora("run", "both", "dialogue.txt", "--adapter", "summary", "--adapter", "nowhere")
    assert code == 2
    assert "nowhere/adapter_model.safetensors is missing" in err


def test_a_stopped_training_goes_on_only_with_the_same_settings(
    calora: Run, llama: Backbone, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*arguments: object) -> None:
        raise KeyboardInterrupt

    def train(epochs: int) -> int:
        arguments = ["train", "summary", "out", "--data", data, "--backbone", llama.name, "--rank", 4]
        return calora(*arguments, "--epochs", epochs)[0]

    with monkeypatch.context() as patch:
        patch.setattr("calora.adapter.write_adapter", stopped)
        assert train(1) == 130
    (left,) = (path for path in (tmp_path / ".out-checkpoints").iterdir() if path.is_dir())
    before = {path.name for path in left.iterdir()}
    assert before, "checkpoints are kept"
    with monkeypatch.context() as patch:
        patch.setattr("calora.adapter.write_adapter", stopped)
        assert train(2) == 130
    begun = [path for path in (tmp_path / ".out-checkpoints").iterdir() if path.is_dir()]
    assert len(begun) == 2, "other settings begin anew"
    with alone_in(tmp_path / ".out-checkpoints"):
        assert train(1) == 2, "another one is at work there"
    assert train(1) == 0
    assert read_adapter(tmp_path / "out").rank == 4
    assert not (tmp_path / ".out-checkpoints").exists()


def test_what_is_there_is_kept(calora: Run, trained: list[str]) -> None:
    code, _, err = calora("calibrate", "summary+es", "summary", "es", "--out", "both", "--fold", "es", *trained)
    assert code == 2
    assert "es is there already" in err
    assert read_adapter("es").rank == 4


def test_a_place_that_may_not_be_written_is_no_fault_of_ours(
    calora: Run, llama: Backbone, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    code, _, err = calora("train", "es", "file/out", "--data", data, "--backbone", llama.name, "--epochs", 1)
    assert code == 2
    assert "hint:" in err
