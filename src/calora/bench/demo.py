"""The demo: two adapters, their merge, both calibrations, and what each approach is worth on held-out dialogues.

It is a benchmark of one composition, whose recipe is made here, and a timing of one pass against several.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

from calora.approaches.multi_step import multi_step
from calora.approaches.one_pass import one_pass
from calora.approaches.tuned_merge import FINE, search_step
from calora.bench.case import Case
from calora.bench.cells import Cell
from calora.bench.grid import Grid
from calora.bench.making import adapter_steps
from calora.bench.progress import Progress
from calora.bench.recipe import ApproachRecipe, DataRecipe, Recipe
from calora.bench.store import Made, Step, StepFailedError, Store
from calora.bench.timing import Timing, time_passes
from calora.calibration import Kind
from calora.console import counting
from calora.corpus import load_everyday, make_examples
from calora.errors import CaloraError
from calora.storage import read_card, write_text
from calora.tasks import Composition
from calora.training.settings import TrainingSettings

Preset = Literal["quick", "default", "full"]

_PAPER_RATE = 5e-4
_RATES: dict[Kind, float] = {"column-bias": 1e-3, "low-rank": 2e-3}
_TITLES: dict[Kind, str] = {"column-bias": "Learnable Calibration", "low-rank": "Learnable Calibration++"}
_ADAPTER_RATES: dict[Preset, float] = {"quick": 5e-4, "default": 3e-4, "full": 2e-4}
_EPOCHS: dict[Preset, int] = {"quick": 1, "default": 2, "full": 4}
_RECORDS: dict[Preset, tuple[int | None, int | None, int | None]] = {
    "quick": (48, 12, 12),
    "default": (240, 36, 72),
    "full": (None, None, None),
}
_COARSE = {"product": (0.7, 1.0), "factors": (0.5, 0.85)}
_FINALISTS: dict[Preset, int] = {"quick": 1, "default": 2, "full": 3}
_TIMED_TEXTS, _TIMED_TOKENS, _TIMED_ROUNDS = 12, 32, 3
_TIMING_VERSION = 1


def demo_recipe(
    preset: Preset = "default", composition: str = "summary+es", backbone: str = "gemma3-270m", seed: int = 0
) -> Recipe:
    """The recipe of a demo.

    Args:
        preset: `quick` (smaller data, same path), `default` (half an hour on 2 cores) or `full` (all data, the paper's
            rates and tuned ones).
        composition: A primary task and one or more secondary ones.
        backbone: As for `Backbone.load`.
        seed: Of training; evaluation always has the same names.

    Raises:
        CaloraError: It is no composition of that kind, or the corpus has no references for it.
    """
    tasks = Composition.parse(composition).tasks
    if tasks[0].role != "primary" or len(tasks) < 2:
        raise CaloraError(
            f"{composition} is no composition of a primary and a secondary task",
            "the demo needs one such as summary+es or reply+casual",
        )
    make_examples(load_everyday("test")[:1], Composition(tasks), seed=0)  # or there is nothing to learn from
    search: dict[str, Any] = {"finalists": _FINALISTS[preset], "strengths": _COARSE if preset == "quick" else FINE}
    train, validation, test = _RECORDS[preset]
    training = TrainingSettings(learning_rate=_ADAPTER_RATES[preset], epochs=_EPOCHS[preset])
    return Recipe(
        backbones=(backbone,),
        seeds=(seed,),
        compositions=(composition,),
        approaches=(
            *(
                ApproachRecipe(
                    name=name,
                    label=f"own-{task.name}-{short}",
                    title=f"{task.name}: {short}",
                    compositions=(task.name,),
                )
                for task in tasks
                for name, short in (("zero-shot", "zero-shot"), ("primary-adapter", "adapter"))
            ),
            ApproachRecipe(name="zero-shot"),
            *(
                ApproachRecipe(
                    name="adapter-of",
                    label=f"adapter-{task.name}",
                    title=f"Adapter {task.name} alone",
                    options={"place": place},
                )
                for place, task in enumerate(tasks)
            ),
            ApproachRecipe(name="linear", title="Linear merge (paper: mean of factors)"),
            ApproachRecipe(name="linear-searched", label="linear-tuned", title="Linear merge, tuned", options=search),
            ApproachRecipe(name="multi-step"),
            *_calibration_rows(preset, search),
            ApproachRecipe(name="constant"),
            ApproachRecipe(name="neighbour"),
            ApproachRecipe(name="ceiling"),
        ),
        adapter=training,
        calibration=training.model_copy(update={"learning_rate": _PAPER_RATE}),
        data=DataRecipe(train=train, validation=validation, test=test),
    )


def run_demo(
    recipe: Recipe, run: Path, follow: Callable[[Progress], None] = lambda _: None
) -> tuple[list[Cell], Timing]:
    """Make every cell of a demo that is not there, then the timing.

    Args:
        recipe: What `demo_recipe` gave.
        run: The run folder.
        follow: Told of the progress.

    Returns:
        The cells in the order of the table, and one pass against several.

    Raises:
        CaloraError: Something that the user can mend.
    """
    grid = Grid(recipe, run, Store(run / "store"), follow, texts=True, timed=False)
    cells = grid.go()
    for _, error in grid.progress.failed:
        raise error.reason if isinstance(error, StepFailedError) else error
    case = Case(grid.workplace, recipe.backbones[0], recipe.parse(recipe.compositions[0]), recipe.seeds[0])
    return cells, grid.store.wait_for(
        _timing_step(case, next(row.recipe for row in grid.rows if row.label == "linear-tuned"))
    )


def _calibration_rows(preset: Preset, search: dict[str, Any]) -> list[ApproachRecipe]:
    """In full, the paper's start and rate, then the searched start with tuned rates; else the paper's start alone."""
    rows = []
    for kind, title in _TITLES.items():
        options: dict[str, Any] = {"kind": kind}
        if preset == "full":
            rows.append((f"{kind}-paper", f"{title} (paper's rate {_PAPER_RATE:g})", options))
        else:
            rate = _RATES[kind]
            rows.append((f"{kind}-factors", f"{title} (rate {rate:g})", options | {"rate": rate}))
    if preset == "full":
        for kind in _TITLES:
            options = {"kind": kind, "start": "searched", "rate": _RATES[kind], "search": search}
            rows.append((f"{kind}-tuned", f"{kind} on the tuned start (rate {_RATES[kind]:g})", options))
    return [
        ApproachRecipe(name="any-calibration", label=label, title=title, options=options)
        for label, title, options in rows
    ]


def _timing_step(case: Case, tuned: ApproachRecipe) -> Step[Timing]:
    """One pass with the tuned merge against multi-step at equal generated tokens, side by side."""
    steps: tuple[Step[Any], ...] = (*adapter_steps(case), search_step(case, **tuned.options))
    examples = case.evaluation_examples("test")[:_TIMED_TEXTS]

    def make(target: Path, work: Path, parents: list[Made[Any]]) -> None:
        *adapters, search = (made.value for made in parents)
        by_task = {task.name: one for task, one in zip(case.composition.tasks, adapters, strict=True)}
        with counting("timing one pass against several", _TIMED_ROUNDS) as advance:
            timing = time_passes(
                case.backbone,
                one_pass(case.backbone, case.composition, search.chosen(adapters)),
                multi_step(case.backbone, case.composition, by_task),
                [example.text for example in examples],
                tokens=_TIMED_TOKENS,
                rounds=_TIMED_ROUNDS,
                follow=advance,
            )
        write_text(target, timing.model_dump_json(indent=2) + "\n")

    settings = case.settings("test") | {
        "version": _TIMING_VERSION,
        "texts": [example.id for example in examples],
        "tokens": _TIMED_TOKENS,
        "rounds": _TIMED_ROUNDS,
    }
    return Step("timing", str(case.composition), settings, make, partial(read_card, model=Timing), steps)
