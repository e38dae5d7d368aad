"""Small grids on a tiny model."""

import json
from pathlib import Path
from typing import Any

from calora.backbone import Backbone
from calora.bench.recipe import Recipe
from calora.storage import fingerprint

APPROACHES = [
    {"name": "zero-shot"},
    {"name": "multi-step"},
    {"name": "linear", "settings": ["paper", "tuned"], "options": {"start": "product"}},
    {"name": "calibration"},
    {"name": "joint-expert", "options": {"rank": 2}},
]
TRAINING = {"learning_rate": 1e-3, "epochs": 1}


def small(backbone: Backbone, **changes: Any) -> Recipe:
    values = {
        "backbones": [backbone.name],
        "compositions": ["summary+es", "reply+casual"],
        "approaches": APPROACHES,
        "adapter": TRAINING,
        "calibration": TRAINING,
        "search": {"compositions": ["summary+es"]},
        "data": {"train": 8, "validation": 3, "test": 3},
        "max_tokens": 4,
    }
    return Recipe.model_validate(values | changes)


def lock_of(folder: Path, place: Any) -> str:
    """The lock of a place's cell in `run`."""
    return fingerprint(str((folder / f"run/cells/{place.name}.json").resolve()))


def results(run: Path) -> dict[str, Any]:
    """Every file of a run's results, times and memory aside."""
    found: dict[str, Any] = {}
    for path in sorted(run.rglob("*.json*")):
        text = path.read_text(encoding="utf-8")
        if path.parent.name == "cells":
            cell = json.loads(text)
            for measured in ("seconds", "times_bare", "peak_mebibytes"):
                del cell["costs"][measured]
            text = json.dumps(cell)
        found[str(path.relative_to(run))] = text
    return found
