"""The grid: every approach on every composition with every backbone and seed, a cell each, resumable."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calora.approaches.one_pass import one_pass
from calora.approaches.registry import Plan
from calora.backbone import native_dtype
from calora.bench.case import EVALUATION_SEED, Case, Workplace
from calora.bench.cells import Cell, predictions_file, read_cell, write_cell
from calora.bench.progress import Progress
from calora.bench.recipe import ApproachRecipe, Recipe
from calora.bench.rows import Choice, Place, Row, rows_of
from calora.bench.search import Search, choose, search_of
from calora.bench.store import Step, Store
from calora.bench.timing import peak_memory, time_passes
from calora.console import counting
from calora.corpus import Split
from calora.errors import CaloraError
from calora.generation import Answer, Pass, answer_all
from calora.storage import fingerprint, slug, write_text
from calora.tasks import Composition
from calora.versions import processor, versions

CELL_VERSION = 1
_TIMED_TEXTS, _TIMED_TOKENS, _TIMED_ROUNDS = 8, 24, 2


@dataclass
class Grid:
    """A recipe being worked through.

    Args:
        recipe: What to compare.
        run: The run folder: cells, predictions, choices, the resolved recipe.
        store: Where trained artefacts lie; they may be gone once the cells are there.
        follow: Told of the progress, often.
        place: Records and backbones.
        texts: Whether predictions repeat the dialogue and the reference.
        timed: Whether every approach is timed against the bare backbone, at equal tokens.
    """

    recipe: Recipe
    run: Path
    store: Store
    follow: Callable[[Progress], None] = lambda _: None
    place: Workplace | None = None
    texts: bool = False
    timed: bool = True

    def __post_init__(self) -> None:
        self.workplace = self.place or Workplace(self.recipe)
        self.rows = rows_of(self.recipe)
        self.progress = Progress()
        self.store.follow = lambda step: self._tell(f"{step.kind} {step.name}")
        self._seconds: dict[str, list[float]] = defaultdict(list)
        names = Counter(place.name for place in self.places())
        twice = [name for name, count in names.items() if count > 1]
        if twice:
            raise CaloraError(
                f"two cells would be called {twice[0]}", "give a row another label, or a backbone another name"
            )

    def places(self) -> list[Place]:
        """Every cell of the grid, those of one backbone, seed and composition together.

        Single tasks come before the first composition that has them, while their adapters are there.
        """
        turns = _turns([self.recipe.parse(name) for name in self._compositions()])
        return sorted(
            (Place(row, case) for row in self.rows for case in self._cases(row.recipe)),
            key=lambda place: (
                self.recipe.backbones.index(place.case.backbone_name),
                place.case.seed,
                turns[str(place.case.composition)],
            ),
        )

    def go(self) -> list[Cell]:
        """Make every cell that is not there; one that fails does not stop the others.

        Returns:
            The cells that are there at the end.

        Raises:
            CaloraError: A backbone is not found; nothing was done.
        """
        for name in self.recipe.backbones:
            self.workplace.sha256(name)
        write_text(self.run / "recipe.json", self.recipe.model_dump_json(indent=2) + "\n")
        places = self.places()
        for place in places:
            self.progress.total[place.row.label] += 1
        self._drop_stale(places)
        cells = []
        for index, place in enumerate(places):
            before = places[max(0, index - 1)].case
            if (place.case.backbone_name, place.case.seed) != (before.backbone_name, before.seed):
                self.store.forget()  # nothing of another backbone or seed is needed again
            try:
                cells.append(self.cell(place))
                self.progress.done[place.row.label] += 1
            except Exception as error:
                self.progress.failed.append((place.name, error))
            self._estimate(places[index + 1 :])
            self._tell("")
        return cells

    def cell(self, place: Place, split: Split = "test", options: Mapping[str, Any] | None = None) -> Cell:
        """A cell, made unless it is there with the same key.

        Args:
            place: Where it stands.
            split: `validation` for a trial of the search.
            options: Instead of those of the row.
        """
        chosen = self.options(place) if options is None else dict(options)
        plan, settings, key = self._planned(place, split, chosen)
        name = place.name if options is None else slug(f"{place.name}--{fingerprint(chosen)}")
        folder = self.run if split == "test" else self.run / split
        path = folder / "cells" / f"{name}.json"
        if path.exists():
            found = read_cell(path)
            if found.key == key:
                return found
            _remove_cell(path)
        values = [self._made(step) for step in plan.parents]
        self._tell(f"cell {name}")
        begin = time.monotonic()
        self._answer(path, place, split, plan, values, {"settings": settings, "key": key, "options": chosen})
        self._seconds["cell"].append(time.monotonic() - begin)
        return read_cell(path)

    def _drop_stale(self, places: Sequence[Place]) -> None:
        """Remove the cells that were answered on other terms, lest a run that stops before their turn show them."""
        for place in places:
            path = self.run / "cells" / f"{place.name}.json"
            if not path.exists():
                continue
            try:
                if place.row.setting == "tuned" and self._search(place.row, place.case.backbone_name).found is None:
                    continue  # what will be chosen is not known yet
                key = self._planned(place, "test", self.options(place))[2]
            except Exception:  # it will fail when its turn comes, and be told then
                continue
            if read_cell(path).key != key:
                _remove_cell(path)

    def options(self, place: Place) -> dict[str, Any]:
        """The options of a row: its own, and on top of them what the search chose."""
        own = dict(place.row.recipe.options)
        return own if place.row.setting == "paper" else {**self.choice(place.row, place.case.backbone_name).options}

    def choice(self, row: Row, backbone: str) -> Choice:
        """Search a tuned row on validation, unless that was done with the same settings."""
        search = self._search(row, backbone)
        return search.found or choose(search, lambda place, options: self.cell(place, "validation", options))

    def _search(self, row: Row, backbone: str) -> Search:
        def key_of(place: Place, options: Mapping[str, Any]) -> str:
            return self._planned(place, "validation", options)[2]

        return search_of(self.workplace, self.run, row, backbone, key_of)

    def _answer(
        self, path: Path, place: Place, split: Split, plan: Plan, values: list[Any], made: dict[str, Any]
    ) -> None:
        case = place.case
        examples = case.evaluation_examples(split)
        peak = times_bare = None
        if plan.given is None:
            passes = plan.passes(case.backbone, values)
            texts = [example.text for example in examples] if plan.texts is None else plan.texts(examples)
            with counting(place.row.title, len(texts) * len(passes)) as advance, peak_memory() as highest:
                answers = answer_all(case.backbone, passes, texts, max_tokens=self.recipe.max_tokens, follow=advance)
                peak = highest()
            if self.timed and split == "test":
                times_bare = _times_bare(case, passes, texts)
        else:
            passes, answers = (), [Answer(text, 0, False, 0.0) for text in plan.given(examples)]
        stored = plan.stored(values)
        trainings = [artefact.card.training for artefact in stored if artefact.card]
        head = {
            "composition": str(case.composition),
            "approach": place.row.label,
            "title": place.row.title,
            "backbone": case.backbone_name,
            "seed": case.seed,
            "options": made["options"],
            "key": made["key"],
            "provenance": made["settings"]
            | {
                "dtype": str(native_dtype()).rpartition(".")[2],
                "training": _trainings(case, values),
                "made_with": versions() | {"processor": processor()},
            },
        }
        write_cell(
            path,
            examples,
            answers,
            case.composition.language,
            head,
            len(passes),
            sum(artefact.parameters for artefact in stored),
            updates=sum(int(training.get("steps", 0)) for training in trainings),
            seen=sum(_seen(training) for training in trainings),
            shared_by=plan.shared_by,
            times_bare=times_bare,
            peak_mebibytes=peak,
            texts=self.texts,
        )

    def _planned(self, place: Place, split: Split, options: Mapping[str, Any]) -> tuple[Plan, dict[str, Any], str]:
        """A plan, what its cell depends on beside the plan's parents, and the key of both."""
        plan: Plan = place.row.approach.plan(place.case, **options)
        settings = place.case.settings(split, *plan.data) | {
            "cell_version": CELL_VERSION,
            "approach": place.row.approach.name,
            "approach_version": place.row.approach.version,
            "options": dict(options),
            "evaluation_seed": EVALUATION_SEED,
            "max_tokens": self.recipe.max_tokens,
        }
        return plan, settings, fingerprint([settings, [parent.key for parent in plan.parents]])

    def _made(self, step: Step[Any]) -> Any:
        """A step's value; the times of what had to be made go into the estimate."""
        missing = [one for one in step.lineage() if not self.store.has(one)]
        value = self.store.get(step)
        for one in missing:
            record = self.store.record(one)
            if record is not None:
                self._seconds[one.kind].append(float(record["seconds"]))
        return value

    def _estimate(self, places: Sequence[Place]) -> None:
        """Guess the time left from the mean time of each kind of step so far; searches to come are not counted."""
        wanted: dict[str, str] = {}
        chosen: dict[tuple[str, str], Choice | None] = {}
        for place in places:
            options = place.row.recipe.options
            try:
                if place.row.setting == "tuned":
                    search = (place.row.label, place.case.backbone_name)
                    if search not in chosen:
                        chosen[search] = self._search(place.row, place.case.backbone_name).found
                    found = chosen[search]  # until it is searched, the row's own options stand for what will be chosen
                    options = found.options if found else options
                plan: Plan = place.row.approach.plan(place.case, **options)
            except Exception:  # it will fail when its turn comes, and be told then
                continue
            wanted[place.name] = "cell"
            for parent in plan.parents:
                wanted |= {one.key: one.kind for one in parent.lineage() if not self.store.has(one)}
        known = {kind: sum(times) / len(times) for kind, times in self._seconds.items()}
        if wanted and set(wanted.values()) <= known.keys():
            self.progress.left = sum(known[kind] for kind in wanted.values())

    def _tell(self, now: str) -> None:
        self.progress.now = now
        self.follow(self.progress)

    def _compositions(self) -> list[str]:
        own = [name for row in self.rows for name in row.recipe.compositions or ()]
        return list(dict.fromkeys([*self.recipe.compositions, *own]))

    def _cases(self, recipe: ApproachRecipe) -> Iterator[Case]:
        for backbone in self.recipe.backbones:
            for seed in recipe.seeds or self.recipe.seeds:
                for name in recipe.compositions or self.recipe.compositions:
                    yield Case(self.workplace, backbone, self.recipe.parse(name), seed)


def _turns(compositions: Sequence[Composition]) -> dict[str, tuple[int, int, int]]:
    """When each composition has its turn: as they stand, but for single tasks."""

    def first_with(composition: Composition) -> int:
        tasks = set(composition.tasks)
        return next(index for index, other in enumerate(compositions) if tasks <= set(other.tasks))

    return {
        str(composition): (
            first_with(composition) if len(composition.tasks) == 1 else index,
            len(composition.tasks),
            index,
        )
        for index, composition in enumerate(compositions)
    }


def _remove_cell(path: Path) -> None:
    predictions_file(path).unlink(missing_ok=True)
    path.unlink()


def _times_bare(case: Case, passes: Sequence[Pass], texts: Sequence[str]) -> float:
    """Time of an approach's passes as a multiple of one pass of the bare backbone, at equal tokens and in turn."""
    return time_passes(
        case.backbone,
        passes,
        one_pass(case.backbone, case.composition, None),
        texts[:_TIMED_TEXTS],
        tokens=_TIMED_TOKENS,
        rounds=_TIMED_ROUNDS,
    ).ratio


def _trainings(case: Case, values: Sequence[Any]) -> list[dict[str, Any]]:
    """How what was learnt for just this composition was trained, by name."""
    found = []
    for value in values:
        card = getattr(value, "card", None)
        name = getattr(card, "composition", None) or getattr(card, "name", None)
        if card is not None and name == str(case.composition):
            found.append({"name": name, **card.training})
    return found


def _seen(training: Mapping[str, Any]) -> int:
    """Examples seen in training: steps times the batch, the last batch of an epoch taken for full."""
    return int(training.get("steps", 0)) * int(training.get("settings", {}).get("batch_size", 0))
