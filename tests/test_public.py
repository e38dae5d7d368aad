import subprocess
import sys
from pathlib import Path

import calora

NAMES = """Adapter Answer Backbone Calibration CalibrationCard CaloraError Composition Example Factors Merge Pass Prompt
TrainingSettings answer_all fold load_everyday make_examples merge read_adapter read_calibration read_pairs read_ready
score_answers train_adapter train_calibration write_adapter write_calibration"""


def test_the_public_names_are_these() -> None:
    assert calora.__all__ == NAMES.split()


def test_every_public_name_is_there() -> None:
    for name in calora.__all__:
        assert getattr(calora, name).__name__ == name


def test_reading_merging_and_folding_need_no_torch() -> None:
    code = (
        "import sys, calora; from calora import read_adapter, fold, Merge, read_calibration, load_everyday;"
        "import calora.cli; print(sorted({'torch', 'transformers', 'peft'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_design_draws_every_module_of_the_house() -> None:
    house = Path(calora.__file__).parent
    parts = {path.name + "/" * path.is_dir() for path in house.iterdir() if path.suffix == ".py" or path.is_dir()}
    drawn = (house.parents[1] / "docs/design.md").read_text(encoding="utf-8").partition("## The house")[2].split()
    assert parts - set(drawn) == {"__init__.py", "__main__.py", "__pycache__/"} & parts
