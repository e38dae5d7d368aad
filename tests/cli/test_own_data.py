"""docs/data.md's way with data of one's own: a CSV, a translator, a task of one's own, a comparison, an export."""

import csv
import sys
from pathlib import Path

import pytest

from calora.adapter import read_adapter
from calora.backbone import Backbone
from calora.bench.cells import read_cell
from tests.cli.conftest import Run

TRANSLATOR = """
import sys
for line in sys.stdin:
    print("La señora habla de " + line.rstrip() if line.strip() else "")
"""
MINE = """
files: {{train: train.csv, validation: validation.csv, test: test.csv}}
columns: {{text: dialogue, id: number, summary: short, title: title}}
targets:
  es: {{by: {{teacher: command, command: "{python} -S translator.py", version: "1"}}}}
filters: {{language: false}}
"""
COMPARE = """
backbones: [{backbone}]
compositions: [title+es]
tasks:
  title: {{role: primary, instruction: "Give the dialogue a title.", then: "give it a title.", label: title}}
adapter: {{learning_rate: 1.0e-3, epochs: 1}}
calibration: {{learning_rate: 1.0e-3, epochs: 1}}
data: {{records: my/data/records.jsonl}}
max_tokens: 4
approaches: [zero-shot, multi-step, linear, calibration]
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the text has:UserWarning")
def test_from_a_csv_to_an_exported_composition(calora: Run, llama: Backbone, tmp_path: Path) -> None:
    for split, count in (("train", 8), ("validation", 3), ("test", 3)):
        with (tmp_path / f"{split}.csv").open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(["number", "dialogue", "short", "title"])
            for n in range(count):
                talk = f"Ann: Shall we meet at {split} {n}?\nBob: Yes."
                table.writerow(
                    [n, talk, f"Ann and Bob meet at {split} {n}.", f"A meeting of two good friends, number {n}"]
                )
    (tmp_path / "translator.py").write_text(TRANSLATOR, encoding="utf-8")
    (tmp_path / "mine.yaml").write_text(MINE.format(python=sys.executable), encoding="utf-8")
    (tmp_path / "compare.yaml").write_text(COMPARE.format(backbone=llama.name), encoding="utf-8")
    code, out, err = calora("compose-data", "mine.yaml", "my/data")
    assert code == 0, err
    assert "train" in out and "read my/data/sample.md before you train on it" in err
    code, out, err = calora("bench", "compare.yaml", "--dry-run")
    assert code == 0, err
    assert "calibration" in out
    code, _, err = calora("bench", "compare.yaml", "--run", "my/run")
    assert code == 0, err
    cells = {cell.approach: cell for cell in map(read_cell, (tmp_path / "my/run/cells").glob("*.json"))}
    assert set(cells) == {"zero-shot", "multi-step", "linear", "calibration"}
    assert all((cell.composition, cell.n) == ("title+es", 3) for cell in cells.values())
    store = tmp_path / "my/run/store"
    (calibration,) = (store / "calibration").iterdir()
    parents = [next((store / "adapter").glob(f"{task}-*")) for task in ("title", "es")]
    given = ["--adapter", parents[0], "--adapter", parents[1], "--backbone", llama.name]
    code, _, err = calora("export", calibration, "out/title-es", "--format", "peft", *given)
    assert code == 0, err
    assert read_adapter(tmp_path / "out/title-es").rank == 33
