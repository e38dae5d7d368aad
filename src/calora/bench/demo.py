"""The demo: two adapters, their merge, two calibrations, and what each approach is worth on held-out dialogues."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from calora.adapter import Adapter, adapter_sha256, read_adapter, write_adapter
from calora.approaches import (
    Candidate,
    candidates,
    choose_merge,
    constant_sentence,
    multi_step,
    neighbour_reference,
    one_pass,
)
from calora.backbone import Backbone
from calora.bench.cells import Cell, read_cell, write_cell
from calora.bench.settings import CalibrationRow, DemoSettings
from calora.bench.steps import Steps
from calora.bench.timing import Timing, time_passes
from calora.calibration import CalibrationCard, fold, read_calibration, write_calibration
from calora.corpus import Example, Record, load_everyday, make_examples, spread
from calora.errors import CaloraError
from calora.generation import Answer, Pass, answer_all
from calora.merging import Merge
from calora.metrics import score_answers
from calora.storage import read_card, write_text
from calora.tasks import Composition, Task
from calora.training.adapter import train_adapter
from calora.training.calibration import train_calibration
from calora.training.data import EncodedExamples

_VERSION = 1
EVALUATION_SEED = 0
_TIMED_TEXTS, _TIMED_TOKENS, _TIMED_ROUNDS = 12, 32, 3


class MergeSearch(BaseModel):
    """What the search for a merge chose, and all that it tried."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    chosen: Merge
    tried: list[Candidate]


@dataclass
class Demo:
    """One run: its settings, its data and the backbone, and the cells as they come.

    Args:
        settings: Sizes, rates and rows.
        run: The run folder.
        follow: Told of each step in a line.
        counting: Makes a bar for a title and a total, and gives what moves it on.
    """

    settings: DemoSettings
    run: Path
    follow: Callable[[str], None] = lambda _: None
    counting: Callable[[str, int], AbstractContextManager[Callable[[int], None]]] = lambda title, total: nullcontext(
        lambda count: None
    )
    cells: dict[str, Cell] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.composition = Composition.parse(self.settings.composition)
        if self.composition.primary is None or not self.composition.secondary:
            raise CaloraError(
                f"{self.composition} is one task", "the demo needs a composition such as summary+es or reply+casual"
            )
        self.train = spread(load_everyday("train"), self.settings.train_records)
        self.validation = spread(load_everyday("validation"), self.settings.validation_records)
        self.test = spread(load_everyday("test"), self.settings.test_records)
        self.steps = Steps(self.run, self.follow)
        self.backbone = Backbone.load(self.settings.backbone)

    def go(self) -> dict[str, Cell]:
        """Run every step that is not done yet; gives the cells in the order of the table."""
        adapters = {task.name: self._adapter(task) for task in self.composition.tasks}
        self._own_tasks(adapters)
        backbone, composition = self.backbone, self.composition
        self._cell("zero-shot", "Zero-shot", one_pass(backbone, composition, None))
        for task in composition.tasks:
            self._cell(
                f"adapter-{task.name}",
                f"Adapter {task.name} alone",
                one_pass(backbone, composition, adapters[task.name]),
            )
        parents = list(adapters.values())
        self._cell("linear", "Linear merge (paper: mean of factors)", one_pass(backbone, composition, Merge()(parents)))
        search = self._search(parents)
        self._cell(
            "linear-tuned",
            f"Linear merge, tuned ({search.chosen})",
            one_pass(backbone, composition, search.chosen(parents)),
        )
        self._cell("multi-step", "Multi-step", multi_step(backbone, composition, adapters))
        for row in self.settings.calibrations:
            self._calibrated(row, parents, search.chosen)
        self._controls(adapters)
        self.timing = self._time(adapters, search.chosen(parents))
        return self.cells

    def _adapter(self, task: Task) -> Adapter:
        composition = Composition((task,))
        name, settings = f"adapters/{task.name}", self._adapter_settings(task)

        def make(target: Path) -> None:
            adapter = train_adapter(
                self.backbone,
                composition,
                self._examples_of(self.train, composition),
                self._examples_of(self.validation, composition),
                self.settings.adapter,
                self.steps.work(name, settings),
            )
            write_adapter(adapter, target)

        return self.steps.do(name, settings, make, read_adapter)

    def _adapter_settings(self, task: Task) -> dict[str, Any]:
        return {
            "version": _VERSION,
            "backbone": self.backbone.sha256,
            "dtype": str(self.backbone.model.dtype),
            "task": task.name,
            "train": [record.id for record in self.train],
            "validation": [record.id for record in self.validation],
            "training": self.settings.adapter.model_dump(),
        }

    def _parent_settings(self) -> dict[str, Any]:
        shas = {task.name: adapter_sha256(self.run / "adapters" / task.name) for task in self.composition.tasks}
        return {
            "version": _VERSION,
            "backbone": self.backbone.sha256,
            "composition": str(self.composition),
            "parents": shas,
            "validation": [record.id for record in self.validation],
        }

    def _search(self, parents: Sequence[Adapter]) -> MergeSearch:
        def make(target: Path) -> None:
            data = EncodedExamples(
                self.backbone,
                self.backbone.prompt(self.composition),
                self._examples_of(self.validation, self.composition),
            )
            grid = self.settings.grid
            total = len(candidates(grid, len(parents))) + len(grid) * self.settings.finalists
            with self.counting("searching merges", total) as advance:
                chosen, tried = choose_merge(
                    self.backbone,
                    parents,
                    data,
                    self._judge,
                    grid,
                    finalists=self.settings.finalists,
                    follow=lambda: advance(1),
                )
            write_text(target, MergeSearch(chosen=chosen, tried=tried).model_dump_json(indent=2) + "\n")

        settings = self._parent_settings() | {
            "grid": self.settings.grid,
            "finalists": self.settings.finalists,
        }
        return self.steps.do("merge-search.json", settings, make, partial(read_card, model=MergeSearch))

    def _judge(self, adapter: Adapter | None) -> float:
        """Validation retrieval, in percent, of whatever acts on the backbone now, with an adapter beside it."""
        examples = self._examples_of(self.validation, self.composition)(0)
        passes = one_pass(self.backbone, self.composition, adapter)
        answers = answer_all(self.backbone, passes, [example.text for example in examples])
        return score_answers(
            [answer.text for answer in answers],
            [example.target for example in examples],
            [example.names for example in examples],
            [example.domain for example in examples],
            self.composition.language,
        ).means["retrieval"]

    def _calibrated(self, row: CalibrationRow, parents: Sequence[Adapter], tuned: Merge) -> None:
        merge = tuned if row.start == "tuned" else Merge(start=row.start)
        merged = merge(parents)
        training = row.training.model_copy(update={"seed": self.settings.seed})
        card = CalibrationCard(
            kind=row.kind,
            rank=row.rank,
            shared="kind",
            composition=str(self.composition),
            merge=merge,
            parents=self._parent_settings()["parents"],
            backbone=self.backbone.name,
            backbone_sha256=self.backbone.sha256,
            prompt=self.backbone.prompt(self.composition),
        )
        settings = self._parent_settings() | {
            "card": card.model_dump(mode="json"),
            "train": [record.id for record in self.train],
            "training": training.model_dump(),
        }
        name = f"calibrations/{row.name}"

        def make(target: Path) -> None:
            calibration = train_calibration(
                self.backbone,
                merged,
                card,
                self._examples_of(self.train, self.composition),
                self._examples_of(self.validation, self.composition),
                training,
                self.steps.work(name, settings),
                judge=lambda: self._judge(None),
            )
            write_calibration(calibration, target)

        calibration = self.steps.do(name, settings, make, read_calibration)
        passes = one_pass(self.backbone, self.composition, fold(merged, calibration))
        self._cell(row.name, row.title, passes, parameters=calibration.parameters, made_by=settings)

    def _time(self, adapters: dict[str, Adapter], merged: Adapter) -> Timing:
        """One pass against several at equal generated tokens, side by side."""
        examples = make_examples(self.test, self.composition, seed=EVALUATION_SEED)[:_TIMED_TEXTS]

        def make(target: Path) -> None:
            with self.counting("timing one pass against several", _TIMED_ROUNDS) as advance:
                timing = time_passes(
                    self.backbone,
                    one_pass(self.backbone, self.composition, merged),
                    multi_step(self.backbone, self.composition, adapters),
                    [example.text for example in examples],
                    tokens=_TIMED_TOKENS,
                    rounds=_TIMED_ROUNDS,
                    follow=advance,
                )
            write_text(target, timing.model_dump_json(indent=2) + "\n")

        settings = self._parent_settings() | {"texts": [example.id for example in examples], "tokens": _TIMED_TOKENS}
        return self.steps.do("timing.json", settings, make, partial(read_card, model=Timing))

    def _own_tasks(self, adapters: dict[str, Adapter]) -> None:
        """Each adapter on its own task, beside zero-shot on the same."""
        for task in self.composition.tasks:
            composition = Composition((task,))
            examples = self._own_examples(task)
            for name, title, adapter in (("zero-shot", "zero-shot", None), ("adapter", "adapter", adapters[task.name])):
                self._cell(
                    f"own-{task.name}-{name}",
                    f"{task.name}: {title}",
                    one_pass(self.backbone, composition, adapter),
                    examples=examples,
                    composition=composition,
                )

    def _own_examples(self, task: Task) -> list[Example]:
        primary = self.composition.primary
        fields = None if task.role == "primary" or primary is None else (primary.name,)
        return make_examples(self.test, Composition((task,)), seed=EVALUATION_SEED, fields=fields)

    def _controls(self, adapters: dict[str, Adapter]) -> None:
        examples = make_examples(self.test, self.composition, seed=EVALUATION_SEED)
        names = [example.names for example in examples]
        train = make_examples(self.train, self.composition, seed=EVALUATION_SEED)
        for name, title, texts in (
            ("constant", "control: a constant sentence", constant_sentence(train, names)),
            ("neighbour", "control: another dialogue's reference", neighbour_reference(examples)),
        ):
            self._cell(name, title, [], answers=[Answer(text, 0, False, 0.0) for text in texts])
        rest = Composition(self.composition.tasks[1:])
        if len(rest.tasks) == 1:
            middle = make_examples(self.test, Composition(self.composition.tasks[:1]), seed=EVALUATION_SEED)
            self._cell(
                "ceiling",
                "control: second pass on the reference",
                one_pass(self.backbone, rest, adapters[rest.tasks[0].name]),
                texts=[example.target for example in middle],
            )

    def _cell(
        self,
        name: str,
        title: str,
        passes: Sequence[Pass],
        *,
        parameters: int = 0,
        examples: list[Example] | None = None,
        composition: Composition | None = None,
        texts: list[str] | None = None,
        answers: list[Answer] | None = None,
        made_by: dict[str, Any] | None = None,
    ) -> None:
        composition = composition or self.composition
        examples = examples or make_examples(self.test, composition, seed=EVALUATION_SEED)
        settings = self._parent_settings() | {
            "approach": name,
            "title": title,
            "test": [example.id for example in examples],
            "made_by": made_by or {},
        }

        def make(target: Path) -> None:
            head = {
                "composition": str(composition),
                "approach": name,
                "title": title,
                "backbone": self.backbone.name,
                "seed": self.settings.seed,
                "provenance": settings,
            }
            given = answers
            if given is None:
                asked = texts or [example.text for example in examples]
                with self.counting(title, len(asked) * len(passes)) as advance:
                    given = answer_all(self.backbone, passes, asked, follow=advance)
            write_cell(target, examples, given, composition.language, head, len(passes), parameters)

        self.cells[name] = self.steps.do(f"cells/{name}.json", settings, make, read_cell)

    def _examples_of(self, records: Sequence[Record], composition: Composition) -> Callable[[int], list[Example]]:
        return lambda epoch: make_examples(records, composition, seed=self.settings.seed, epoch=epoch)
