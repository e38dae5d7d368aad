"""Run folders written as the demo writes them, from a few dialogues and answers of known worth."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from calora.bench.cells import cell_stem, write_cell
from calora.corpus import Example
from calora.generation import Answer

THINGS = ["la lámpara del pasillo", "un billete de tren", "el perro de la vecina", "la receta de lentejas"]
ENDS = ["se rompió ayer por la noche", "apareció debajo del sofá", "cuesta más de lo que pensaban"]
EXAMPLES = [
    Example(
        f"{domain}-{number:03}",
        domain,
        f"Ana: Have you heard?\nBen: Tell me about number {number} of {domain}.",
        f"Ana le cuenta a Ben que {THINGS[number]} {end}.",
        ("Ana", "Ben"),
    )
    for domain, end in zip(("arts", "food", "work"), ENDS, strict=True)
    for number in range(4)
]
TITLES = {
    "zero-shot": "Zero-shot",
    "linear-tuned": "Linear merge, tuned (product 0.8/1)",
    "multi-step": "Multi-step",
    "low-rank-factors": "Learnable Calibration++",
    "neighbour": "control: another dialogue's reference",
}
RIGHT = {"zero-shot": 2, "linear-tuned": 6, "multi-step": 10, "low-rank-factors": 9, "neighbour": 0}


def answered(right: int, seed: int = 0) -> list[Answer]:
    """So many answers that are the reference; the others are the reference of the next dialogue of the domain."""
    answers = []
    for index, example in enumerate(EXAMPLES):
        other = EXAMPLES[4 * (index // 4) + (index + 1) % 4]
        good = (index * 5 + seed) % len(EXAMPLES) < right
        answers.append(Answer(example.target if good else other.target, 20, index == 0, 0.25))
    return answers


def write_named_cell(
    run: Path, approach: str, title: str, answers: Sequence[Answer], *, seed: int = 0, **changes: Any
) -> None:
    """Write one cell; `changes` replace the composition, the backbone, the examples, the passes or the parameters."""
    head = {
        "composition": changes.get("composition", "summary+es"),
        "approach": approach,
        "title": title,
        "backbone": changes.get("backbone", "tiny"),
        "seed": seed,
        "provenance": {"backbone": "ab" * 32, "training": changes.get("training", [])},
    }
    stem = cell_stem(head["composition"], approach, head["backbone"], seed)
    write_cell(
        run / "cells" / f"{stem}.json",
        changes.get("examples", EXAMPLES),
        answers,
        changes.get("language", "es"),
        head,
        changes.get("passes", 1),
        changes.get("parameters", 0),
    )


@pytest.fixture
def write_run(tmp_path: Path) -> Callable[..., Path]:
    """Writes a run folder of a seed, whole: cells, merge search, cards and records of steps."""

    def write(name: str = "run", seed: int = 0) -> Path:
        run = tmp_path / name
        validation = [
            {"epoch": 1.0, "eval_loss": 2.5, "step": 10},
            {"epoch": 1.0, "eval_score": 39.9, "eval_judge": 40.0, "step": 10},
            {"epoch": 2.0, "eval_loss": 2.25, "step": 20},
            {"epoch": 2.0, "eval_score": 36.0, "eval_judge": 36.1, "step": 20},
        ]
        calibrated = [{"validation": validation, "shipped_kl": 2e-5}]
        for approach, title in TITLES.items():
            write_named_cell(
                run,
                approach,
                title,
                answered(RIGHT[approach], seed),
                seed=seed,
                passes={"multi-step": 2, "neighbour": 0}.get(approach, 1),
                parameters=166_229 if approach == "low-rank-factors" else 0,
                training=calibrated if approach == "low-rank-factors" else [],
            )
        write_named_cell(run, "own-es-zero-shot", "es: zero-shot", answered(3), seed=seed, composition="es")
        trained = [{"validation": validation[::2]}]
        own = "own-es-adapter"
        write_named_cell(run, own, "es: adapter", answered(11), seed=seed, composition="es", training=trained)
        put(run / "store/records/ab12.json", {"kind": "adapter", "name": "es seed 0", "seconds": 12.5})
        chosen = {"start": "product", "strengths": [0.8, 1.0]}
        tried = [
            {"merge": chosen, "loss": 2.125, "retrieval": 41.7},
            {"merge": {"start": "factors", "strengths": [1.0, 1.0]}, "loss": 2.75, "retrieval": 25.0},
            {"merge": {"start": "factors", "strengths": [0.5, 0.5]}, "loss": 3.5, "retrieval": None},
        ]
        put(run / "store/merge-search/summary+es-seed-0-cd34", {"chosen": chosen, "tried": tried})
        return run

    return write


def put(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
