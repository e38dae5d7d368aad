"""The grid: every approach on every composition with every backbone and seed, a cell each, resumable."""

import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from calora.adapter import adapter_sha256
from calora.approaches.registry import Plan
from calora.bench.answering import answer_cell
from calora.bench.case import EVALUATION_SEED, Workplace, no_records
from calora.bench.cells import Cell, cell_at, lock_of, read_cell, set_aside
from calora.bench.progress import Progress
from calora.bench.recipe import Recipe
from calora.bench.rows import Choice, Place, Row, compositions_of, places_of, rows_of
from calora.bench.search import Search, choose, search_of
from calora.bench.store import WAIT, BusyError, Step, Store
from calora.corpus import Split, records_for
from calora.errors import CaloraError
from calora.storage import fingerprint, slug, write_text

CELL_VERSION = 1
_WAITING = "waiting for another process"


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

    @property
    def _recipe_text(self) -> str:
        return self.recipe.model_dump_json(indent=2) + "\n"

    def __post_init__(self) -> None:
        self.workplace = self.place or Workplace(self.recipe)
        self.rows = rows_of(self.recipe)
        self.progress = Progress()
        self.store.follow = lambda step: self._tell(f"{step.kind} {step.name}")
        self._there: dict[str, float] = {}
        self._seconds: dict[str, list[float]] = defaultdict(list)
        for kind, seconds in self.store.times():
            self._seconds[kind].append(seconds)
        names = Counter(place.name for place in self.places())
        twice = [name for name, count in names.items() if count > 1]
        if twice:
            raise CaloraError(
                f"two cells would be called {twice[0]}", "give a row another label, or a backbone another name"
            )

    def places(self) -> list[Place]:
        """Every cell of the grid, in the order in which they are made."""
        return places_of(self.workplace, self.rows)

    def go(self) -> list[Cell]:
        """Make every cell that is not there; one that fails does not stop the others.

        Other processes may be at the same grid: what one of them makes is left to it, and come back to.

        Returns:
            The cells that are there at the end.

        Raises:
            CaloraError: A backbone or a file is not found, and nothing was done; or another process began with another
                recipe.
        """
        places = self.prepare()
        cells: dict[str, Cell] = {}
        left, last = list(places), None
        while left:
            self._check_recipe()
            for place in left:
                try:
                    cells[place.name] = self.cell(place)
                    self.progress.done[place.row.label] += 1
                except BusyError:
                    continue
                except Exception as error:
                    self.progress.failed.append((place.name, error))
                left.remove(place)
                if last is not None and _kept(place) != _kept(last):
                    self.store.forget()  # nothing of another backbone or seed is needed again
                last = place
                self._estimate(left)
                self._tell("")
                break
            else:
                if self.progress.now != _WAITING:
                    self._tell(_WAITING)
                time.sleep(WAIT)
        return [cells[place.name] for place in places if place.name in cells]

    def prepare(self) -> list[Place]:
        """Look for what the run needs, write the recipe into its folder, set cells aside that were made on other terms.

        Returns:
            As `places`.

        Raises:
            CaloraError: A backbone or a file is not found, or has nothing to ask; nothing was done.
        """
        self.recipe.data.check_files()
        asked = [self.recipe.parse(name) for name in compositions_of(self.recipe)]
        for composition in asked:
            self.workplace.check_asked(composition)
        for task in self.recipe.data.outside:
            self.workplace.check_outside(task, asked)
        for name in self.recipe.backbones:
            self.workplace.sha256(name)
        write_text(self.run / "recipe.json", self._recipe_text)
        places = self.places()
        for place in places:
            self.progress.total[place.row.label] += 1
        self._drop_stale(places)
        self._tell_gaps([place for place in places if place.name not in self._there])
        return places

    def _check_recipe(self) -> None:
        """Refuse to go on where another process began with another recipe."""
        path = self.run / "recipe.json"
        if path.exists() and path.read_text(encoding="utf-8") != self._recipe_text:
            raise CaloraError(
                f"another process works in {self.run} with another recipe",
                "let the processes of a run have one recipe, or give each recipe a run folder of its own",
            )

    def _tell_gaps(self, places: Sequence[Place]) -> None:
        """Warn of a split that something is to be learnt from, or chosen by, and that has nothing for it."""
        needed: dict[tuple[Split, str], dict[str, None]] = defaultdict(dict)
        for place, options in self.asked(places):
            try:
                plan, settings, _ = self.planned(place, "test", options)
            except Exception:  # it will fail when its turn comes, and be told then
                continue
            asked = {(split, settings["composition"]) for split in settings["data"]}
            for step in (step for parent in plan.parents for step in parent.lineage()):
                splits = {split for part in step.parts for split in part.get("data", {})}
                asked |= {(split, name) for split in splits for name in step.examples_of}
            for one in sorted(asked):
                needed[one][place.row.label] = None
        for (split, name), labels in needed.items():
            if not records_for(self.workplace.records(split), self.recipe.parse(name)):
                warnings.warn(f"{no_records(split, name)}: {', '.join(labels)} will fail", stacklevel=3)

    def asked(self, places: Sequence[Place]) -> Iterator[tuple[Place, dict[str, Any]]]:
        """What is to be planned: places, and every candidate of a search to come on each of its compositions.

        A tuned row has what its search chose. One that is not searched yet stands with its last candidate: what will
        be chosen is unknown, and to take the paper's own setting would leave its training out of the count.
        """
        searches: dict[tuple[str, str], Search] = {}
        for one in places:
            if one.row.setting == "paper":
                yield one, dict(one.row.recipe.options)
                continue
            name = (one.row.label, one.case.backbone_name)
            if name not in searches:
                searches[name] = self.search(one.row, one.case.backbone_name)
            found = searches[name].found
            yield one, dict(found.options if found else searches[name].candidates[-1])
        for search in searches.values():
            if search.found is None:
                for options in search.candidates:
                    for place in search.places:
                        yield place, dict(options)

    def cell(self, place: Place, split: Split = "test", options: Mapping[str, Any] | None = None) -> Cell:
        """A cell, made unless it is there with the same key.

        Args:
            place: Where it stands.
            split: `validation` for a trial of the search.
            options: Instead of those of the row.

        Raises:
            BusyError: Another process is making it, or something that it needs.
        """
        chosen = self.options(place) if options is None else dict(options)
        plan, settings, key = self.planned(place, split, chosen)
        name = place.name if options is None else slug(f"{place.name}--{fingerprint(chosen)}")
        folder = self.run if split == "test" else self.run / split
        path = folder / "cells" / f"{name}.json"
        if (found := cell_at(path)) and found.key == key:
            return found
        values = [self._made(step) for step in plan.parents]
        with self.store.alone(lock_of(path)):
            if (found := cell_at(path)) and found.key == key:
                return found
            self._check_recipe()  # in a cluster each worker has its own
            set_aside(path)
            self._tell(f"cell {name}")
            begin = time.monotonic()
            made = {"settings": settings, "key": key, "options": chosen, "adapters": self._adapters(plan)}
            timed = self.timed and split == "test"
            answer_cell(path, place, split, plan, values, made, timed=timed, texts=self.texts)
            self._seconds["cell"].append(time.monotonic() - begin)
            return read_cell(path)

    def _drop_stale(self, places: Sequence[Place]) -> None:
        """Set aside the cells that were answered on other terms, lest a run that stops before their turn show them."""
        moved = 0
        for place in places:
            path = self.run / "cells" / f"{place.name}.json"
            if not path.exists():
                continue
            found = cell_at(path)
            made = self.is_made(place, found) if found else False
            if found and made:
                self._there[place.name] = found.costs.seconds * found.n
            if made is not False:
                continue
            with suppress(BusyError), self.store.alone(lock_of(path)):
                if cell_at(path) == found:  # another process may have made it again since
                    set_aside(path)
                    moved += 1
        if moved:
            warnings.warn(
                f"{moved} cell{'s' * (moved > 1)} of {self.run} had been made on other terms, or cannot be read: "
                "moved to stale/ there",
                stacklevel=2,
            )

    def is_made(self, place: Place, found: Cell) -> bool | None:
        """Whether a cell was made on the recipe's terms; None where what it hangs on cannot be planned."""
        try:
            unknown = place.row.setting == "tuned" and not self.search(place.row, place.case.backbone_name).found
            # What will be chosen is not known yet: it stays if only that may change.
            options = found.options if unknown else self.options(place)
            return found.key == self.planned(place, "test", options)[2]
        except Exception:  # it will fail when its turn comes, and be told then
            return None

    def options(self, place: Place) -> dict[str, Any]:
        """The options of a row: its own, and on top of them what the search chose."""
        own = dict(place.row.recipe.options)
        return own if place.row.setting == "paper" else {**self.choice(place.row, place.case.backbone_name).options}

    def choice(self, row: Row, backbone: str) -> Choice:
        """Search a tuned row on validation, unless that was done with the same settings."""
        search = self.search(row, backbone)
        return search.found or choose(search, lambda place, options: self.cell(place, "validation", options))

    def search(self, row: Row, backbone: str) -> Search:
        """What the search of a tuned row tries, and what it found."""

        def key_of(place: Place, options: Mapping[str, Any]) -> str:
            return self.planned(place, "validation", options)[2]

        return search_of(self.workplace, self.run, row, backbone, key_of)

    def planned(self, place: Place, split: Split, options: Mapping[str, Any]) -> tuple[Plan, dict[str, Any], str]:
        """A plan, what its cell depends on beside the plan's parents, and the key of both."""
        plan: Plan = place.row.approach.plan(place.case, **options)
        settings = place.case.settings(split, *plan.data) | {
            "cell_version": CELL_VERSION,
            "approach": place.row.approach.name,
            "approach_version": place.row.approach.version,
            "options": dict(options),
            "evaluation_seed": EVALUATION_SEED,
            "max_tokens": self.recipe.max_tokens,
            **({} if self.recipe.engine == "torch" else {"engine": self.recipe.engine}),
        }
        return plan, settings, fingerprint([settings, [parent.key for parent in plan.parents]])

    def _made(self, step: Step[Any]) -> Any:
        """A step's value; the times of what had to be made go into the estimate."""
        missing = {one.key: one for one in step.lineage() if not self.store.has(one)}
        value = self.store.get(step)
        for one in missing.values():
            record = self.store.record(one)
            if record is not None:
                self._seconds[one.kind].append(float(record["seconds"]))
        return value

    def _adapters(self, plan: Plan) -> dict[str, str]:
        """Name to SHA-256 of the single-task adapters that an answer hangs on, as far as they are still there."""
        steps = {step.key: step for parent in plan.parents for step in parent.lineage() if step.kind == "adapter"}
        return {step.name: adapter_sha256(self.store.path(step)) for step in steps.values() if self.store.has(step)}

    def _estimate(self, places: Sequence[Place]) -> None:
        """Guess the time left from the mean time of each kind of step, now and in earlier runs with this store.

        Before a cell was made it takes what answering took in those that are there; any other kind that was never made
        takes the mean of the others. Searches to come are not counted.
        """
        wanted: dict[str, str] = {}
        chosen: dict[tuple[str, str], Choice | None] = {}
        for place in places:
            if place.name in self._there:
                continue
            options = place.row.recipe.options
            try:
                if place.row.setting == "tuned":
                    search = (place.row.label, place.case.backbone_name)
                    if search not in chosen:
                        chosen[search] = self.search(place.row, place.case.backbone_name).found
                    found = chosen[search]  # until it is searched, the row's own options stand for what will be chosen
                    options = found.options if found else options
                plan: Plan = place.row.approach.plan(place.case, **options)
            except Exception:  # it will fail when its turn comes, and be told then
                continue
            wanted[place.name] = "cell"
            for parent in plan.parents:
                wanted |= {one.key: one.kind for one in parent.lineage() if not self.store.has(one)}
        known = {kind: fmean(times) for kind, times in self._seconds.items()}
        if (answering := [seconds for seconds in self._there.values() if seconds]) and "cell" not in known:
            known["cell"] = fmean(answering)
        if wanted and known:
            of_others = fmean(known.values())
            self.progress.left = sum(known.get(kind, of_others) for kind in wanted.values())

    def _tell(self, now: str) -> None:
        self.progress.now = now
        self.follow(self.progress)


def _kept(place: Place) -> tuple[str, int]:
    """What a value in memory is of."""
    return place.case.backbone_name, place.case.seed
