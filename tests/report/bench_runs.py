"""A run folder as `calora bench` writes it: three rows, a control, three compositions, a single task, two seeds."""

import json
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calora.bench.case import EVALUATION_SEED, Case, Workplace
from calora.bench.cells import cell_stem, read_predictions, write_cell
from calora.bench.llm_judging import LlmVerdicts, answers_key
from calora.bench.recipe import Recipe
from calora.bench.rows import choice_file
from calora.corpus import Example, Split
from calora.generation import Answer
from calora.judges.llm import Outcome
from calora.storage import write_text

BACKBONE, SEEDS, DIALOGUES = "tiny", (0, 1), 9
COMPOSITIONS = ("summary+es", "reply+casual", "summary+professional+es")
SOME = COMPOSITIONS[:2]  # those of the tuned merge
TITLES = {
    "multi-step": "Multi-step",
    "linear (tuned)": "Linear merge, tuned",
    "calibration": "Learnable <Calibration>",
    "constant": "control: one sentence",
}
RIGHT = {"multi-step": 8, "linear (tuned)": 3, "calibration": 6, "constant": 1}  # of nine
PARAMETERS = 22_699
HTML = "<img src=https://example.org/x.png onerror=alert(1)></script>"
VALIDATION = [{"epoch": 1.0, "eval_loss": 2.5}, {"epoch": 2.0, "eval_loss": 2.25}]


def recipe(**changes: Any) -> Recipe:
    values = {
        "backbones": [BACKBONE],
        "seeds": SEEDS,
        "compositions": COMPOSITIONS,
        "approaches": [
            "constant",
            "multi-step",
            {"name": "linear", "settings": ["tuned"], "compositions": SOME},
            "calibration",
            {"name": "primary-adapter", "label": "alone", "compositions": ["es"]},
        ],
        "search": {"compositions": ["summary+es"]},
        "data": {"test": DIALOGUES},
    }
    return Recipe.model_validate(values | changes)


def hits(label: str, composition: str, seed: int) -> NDArray[np.float64]:
    """Retrieval [dialogues] of a row, by how its answers are made."""
    turn = np.arange(DIALOGUES) + COMPOSITIONS.index(composition) + seed
    return 100.0 * (turn % DIALOGUES < RIGHT[label])


def answers(examples: list[Example], good: NDArray[np.float64]) -> list[Answer]:
    """The reference where it is good, else that of another dialogue of the domain, with HTML behind it."""
    found = []
    for index, example in enumerate(examples):
        others = [other for other in examples if other.domain == example.domain and other.id != example.id]
        text = example.target if good[index] else f"{others[0].target} {HTML}"
        found.append(Answer(text, 20, index == 0, 0.25))
    return found


def write_bench_run(run: Path, shift: int = 0, **changes: Any) -> Path:
    """Write a run.

    Args:
        run: Its folder.
        shift: How many more answers of the calibration are right.
        changes: Keys of the recipe.
    """
    asked = recipe(**changes)
    place = Workplace(asked)
    run.mkdir(parents=True, exist_ok=True)
    (run / "recipe.json").write_text(asked.model_dump_json(indent=2), encoding="utf-8")
    for label, title in TITLES.items():
        for name in SOME if "linear" in label else COMPOSITIONS:
            for seed in asked.seeds:
                examples = Case(place, BACKBONE, asked.parse(name), seed).evaluation_examples("test")
                good = hits(label, name, seed)
                if label == "calibration":
                    good[np.flatnonzero(good == 0)[:shift]] = 100
                write_answers(run, place, examples, answers(examples, good), (label, title, name, seed))
    for seed in asked.seeds:
        examples = Case(place, BACKBONE, asked.parse("es"), seed).evaluation_examples("test")
        found = answers(examples, 100.0 * (np.arange(DIALOGUES) < 7))
        write_answers(run, place, examples, found, ("alone", "Primary adapter", "es", seed))
    _put(
        choice_path(run),
        {
            "approach": "linear",
            "options": {"start": "product", "strength": 0.8},
            "tried": [
                {"options": {"start": "factors", "strength": 0.5}, "retrieval": 20.0, "rouge": 30.0},
                {"options": {"start": "product", "strength": 0.8}, "retrieval": 33.3, "rouge": 25.0},
            ],
            "key": "0",
        },
    )
    return run


def cell_path(run: Path, label: str, composition: str, seed: int) -> Path:
    return run / "cells" / f"{cell_stem(composition, label, BACKBONE, seed)}.json"


def choice_path(run: Path) -> Path:
    return choice_file(run, "linear (tuned)", BACKBONE)


def predictions_path(run: Path, label: str, composition: str, seed: int) -> Path:
    return run / "predictions" / f"{cell_path(run, label, composition, seed).stem}.jsonl"


def change_predictions(path: Path, change: Any) -> None:
    """Write a file of predictions anew, as `change` gives its rows back."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in change(rows))
    path.write_text(text + "\n", encoding="utf-8")


def add_judge(run: Path, composition: str, value: float = 100.0) -> None:
    """Give every prediction of a composition a verdict."""
    for path in (run / "predictions").glob(f"{composition}--*.jsonl"):
        change_predictions(path, lambda rows: [row | {"scores": row["scores"] | {"judge": value}} for row in rows])


def add_llm_verdicts(cell: Path, outcomes: Sequence[Outcome], model: str = "any") -> None:
    """Write what a language model said of a cell's answers, over and over in this order."""
    rows = read_predictions(cell)
    verdicts = LlmVerdicts(
        composition="any",
        approach="any",
        model=model,
        key="any",
        answers=answers_key(rows),
        outcomes=dict(zip((row["id"] for row in rows), cycle(outcomes), strict=False)),
    )
    write_text(cell.parent.parent / "llm" / cell.name, verdicts.model_dump_json())


def write_answers(
    run: Path, place: Workplace, examples: list[Example], found: list[Answer], where: tuple[str, str, str, int]
) -> None:
    label, title, name, seed = where
    splits: tuple[Split, ...] = ("test", "train") if label == "constant" else ("test",)  # it reads training records too
    head = {
        "composition": name,
        "approach": label,
        "title": title,
        "backbone": BACKBONE,
        "seed": seed,
        "provenance": {
            "backbone": "ab" * 32,
            "dtype": ("float32", "bfloat16")[seed % 2],
            "data": {split: place.data_key(split, place.recipe.parse(name)) for split in splits},
            "evaluation_seed": EVALUATION_SEED,
            "max_tokens": place.recipe.max_tokens,
            **({"training": [{"validation": VALIDATION}]} if label in ("calibration", "alone") else {}),
        },
    }
    write_cell(
        cell_path(run, label, name, seed),
        examples,
        found,
        place.recipe.parse(name).language,
        head,
        {"multi-step": len(name.split("+")), "constant": 0}.get(label, 1),
        PARAMETERS if label == "calibration" else 0,
        updates=100 if label == "calibration" else 0,
        seen=800 if label == "calibration" else 0,
        texts=False,
    )


def _put(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
