"""calora: calibrated merges of LoRA adapters, two tasks in one pass.

The public names are imported when they are first asked for, so that `import calora` needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from calora.adapter import Adapter, Factors, read_adapter, write_adapter
    from calora.backbone import Backbone
    from calora.calibration import Calibration, CalibrationCard, fold, read_calibration, write_calibration
    from calora.corpus import Example, load_everyday, make_examples, read_pairs
    from calora.errors import CaloraError
    from calora.generation import Answer, Pass, answer_all
    from calora.merging import Merge, merge
    from calora.metrics import score_answers
    from calora.ready import read_ready
    from calora.tasks import Composition, Prompt
    from calora.training.adapter import train_adapter
    from calora.training.calibration import train_calibration
    from calora.training.settings import TrainingSettings

_HOMES = {
    "adapter": ("Adapter", "Factors", "read_adapter", "write_adapter"),
    "backbone": ("Backbone",),
    "calibration": ("Calibration", "CalibrationCard", "fold", "read_calibration", "write_calibration"),
    "corpus": ("Example", "load_everyday", "make_examples", "read_pairs"),
    "errors": ("CaloraError",),
    "generation": ("Answer", "Pass", "answer_all"),
    "merging": ("Merge", "merge"),
    "metrics": ("score_answers",),
    "ready": ("read_ready",),
    "tasks": ("Composition", "Prompt"),
    "training.adapter": ("train_adapter",),
    "training.calibration": ("train_calibration",),
    "training.settings": ("TrainingSettings",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Adapter",
    "Answer",
    "Backbone",
    "Calibration",
    "CalibrationCard",
    "CaloraError",
    "Composition",
    "Example",
    "Factors",
    "Merge",
    "Pass",
    "Prompt",
    "TrainingSettings",
    "answer_all",
    "fold",
    "load_everyday",
    "make_examples",
    "merge",
    "read_adapter",
    "read_calibration",
    "read_pairs",
    "read_ready",
    "score_answers",
    "train_adapter",
    "train_calibration",
    "write_adapter",
    "write_calibration",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'calora' has no attribute {name!r}")
    return getattr(import_module(f"calora.{_HOME_OF[name]}"), name)
