"""What a recipe would fetch, train, store and need, without doing any of it."""

import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from calora.bench.case import Workplace
from calora.bench.cells import cell_at
from calora.bench.grid import Grid
from calora.bench.recipe import Recipe
from calora.bench.rows import Place
from calora.bench.store import Step, Store
from calora.corpus import AnyRecord, Split, fields_for, spread
from calora.embedded import EMBEDDED
from calora.packing import split_packing
from calora.sizes import KNOWN_MODELS, Model, adapter_parameters
from calora.tasks import Composition

_CHARACTERS = 4.0  # a token, about
_EXAMPLE_TOKENS = 250.0  # where no record is there to be measured
# A frozen weight costs two operations a token forward, and two more to pass the gradient on; it has none itself.
_OPERATIONS = 4
# Bytes that a layer keeps for its backward pass, a token and a hidden unit, in 16 bits, attention's tables left out
# (Korthikanti et al., 2022, https://arxiv.org/abs/2205.05198).
_ACTIVATION_BYTES = 34


@dataclass
class Work:
    """Artefacts of one kind.

    Args:
        wanted: How many the run needs.
        there: Of these, in the store already; none of a backbone that is not here, whose content names them.
        updates: Of those that are to be trained, searches included; 0 for what is not trained by gradients.
        operations: Floating-point operations of that, estimated.
    """

    wanted: int = 0
    there: int = 0
    updates: int = 0
    operations: float = 0.0


@dataclass
class Forecast:
    """What a run would do.

    Args:
        fetched: What is not here, with its size in GB where that is known.
        work: By kind of artefact.
        cells: How many there are in all, and how many are there already.
        stored: GB of the store at the end, adapters and joint experts in bfloat16; all else is small.
        memory: Backbone to GiB of its largest training, about, attention's tables left out.
        unknown: What could not be planned or estimated, and why.
    """

    fetched: list[tuple[str, float | None]] = field(default_factory=list)
    work: dict[str, Work] = field(default_factory=dict)
    cells: tuple[int, int] = (0, 0)
    stored: float = 0.0
    memory: dict[str, float] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)


class Unfetched(Workplace):
    """A workplace where what is not here has a name in place of its content."""

    def is_here(self, backbone: str) -> bool:
        """Whether a backbone needs no hub."""
        plain, _ = split_packing(backbone)
        return plain in EMBEDDED or Path(plain).exists()

    def sha256(self, name: str) -> str:
        """Of a backbone, or a name for it."""
        return super().sha256(name) if self.is_here(name) else f"of {name}"

    def reading_sha256(self, name: str) -> str | None:
        """Of what turns a text into tokens; nothing of a backbone that is not here."""
        return super().reading_sha256(name) if self.is_here(name) else None

    @property
    def missing(self) -> list[Path]:
        """Files of records that are not here."""
        return [path for path in (*self.recipe.data.records, *self.recipe.data.tested_on) if not path.exists()]

    def lacks(self, split: Split) -> bool:
        """Whether a file that a split is read from is not here."""
        data = self.recipe.data
        return not all(path.exists() for path in (split == "test" and data.tested_on) or data.records)

    def outside_key(self, task: str) -> str:
        """Of the file, or a name for it."""
        return super().outside_key(task) if self.recipe.data.outside[task].exists() else f"of {task}"

    def records(self, split: Split) -> list[AnyRecord]:
        """The records; none where a file is missing."""
        return [] if self.lacks(split) else super().records(split)

    def data_key(self, split: Split, composition: Composition) -> str:
        """Of what a split has for a composition, or a name for it."""
        return f"of {split}" if self.lacks(split) else super().data_key(split, composition)

    def examples(self, composition: Composition) -> int:
        """Training examples of an epoch: what the recipe allows of those that there are.

        Of files that are not here each is taken for an equal share of what the recipe allows, and a primary task for
        one file's: summaries and replies come from different sources.
        """
        wanted, outside = self.recipe.data.train, self.recipe.data.outside.get(str(composition))
        if outside is not None:
            return len(self.outside(str(composition), "train")) if outside.exists() else wanted or 0
        if self.lacks("train"):
            return (wanted or 0) // (1 if composition.primary is None else len(self.recipe.data.records))
        records = spread(self.records("train"), wanted)
        # A secondary task alone learns from every field that has it.
        fields = [fields_for(record, composition) for record in records]
        return sum(len(found) if composition.primary is None else bool(found) for found in fields)

    @property
    def tokens(self) -> float:
        """Of a training example, about."""
        lengths = [
            len(text) + len(references.get("en", ""))
            for record in self.records("train")[:200]
            for text, references in ((record.plain, next(iter(record.by_field().values()))),)
        ]
        return statistics.fmean(lengths) / _CHARACTERS if lengths else _EXAMPLE_TOKENS


def forecast(recipe: Recipe, run: Path, store: Store) -> Forecast:
    """Plan everything that a recipe asks for, searches included.

    Args:
        recipe: What to compare; its tasks, approaches, options, data files and search budgets are checked.
        run: The run folder.
        store: Where trained artefacts lie.

    Raises:
        CaloraError: The recipe asks for what there is not.
    """
    found, place = Forecast(), Unfetched(recipe)
    models = {name: KNOWN_MODELS.get(split_packing(name)[0]) for name in recipe.backbones}
    for name, model in models.items():
        if not place.is_here(name):
            found.fetched.append(
                (f"backbone {name} from the hub", None if model is None else 2 * model.parameters / 1e9)
            )
        if model is None:
            found.unknown.append(f"what {name} costs: calora does not know its size")
        else:
            found.memory[name] = _training_gib(model, recipe, place.tokens)
    absent = dict.fromkeys(path for path in recipe.data.outside.values() if not path.exists())
    found.fetched += [(f"{path}, by calora compose-data", None) for path in (*place.missing, *absent)]
    grid = Grid(recipe, run, store, place=place)
    places = grid.places()
    missing = [one for one in places if not _is_there(grid, place, one)]
    found.cells = len(places), len(places) - len(missing)
    steps: dict[str, tuple[Step[Any], Model | None]] = {}
    for one, options in grid.asked(missing):
        try:
            plan = one.row.approach.plan(one.case, **options)
        except Exception as error:  # as the grid takes it: this cell alone would fail
            found.unknown.append(f"{one.row.label} on {one.case.composition}: {error}")
            continue
        for parent in plan.parents:
            steps |= {step.key: (step, models[one.case.backbone_name]) for step in parent.lineage()}
    for step, model in steps.values():
        _add(found, step, model, place, store)
    return found


def _is_there(grid: Grid, workplace: Unfetched, place: Place) -> bool:
    """Whether a cell need not be made, as far as its key can be known here."""
    found = cell_at(grid.run / "cells" / f"{place.name}.json")
    if found is None:
        return False
    known = workplace.is_here(place.case.backbone_name) and not workplace.missing
    return not known or grid.is_made(place, found) is not False


def _add(found: Forecast, step: Step[Any], model: Model | None, place: Unfetched, store: Store) -> None:
    work = found.work.setdefault(step.kind, Work())
    work.wanted += 1
    if model is not None and step.kind in ("adapter", "joint-expert"):
        found.stored += 2 * adapter_parameters(model.architecture, int(step.settings["rank"])) / 1e9
    if store.has(step):
        work.there += 1
    elif training := step.settings.get("training"):
        counts = [place.examples(place.recipe.parse(name)) for name in step.examples_of]
        examples = sum(min(count, step.settings.get("examples", count)) for count in counts)
        work.updates += training["epochs"] * -(-examples // training["batch_size"])
        if model is not None:
            work.operations += _OPERATIONS * model.parameters * training["epochs"] * examples * place.tokens


def _training_gib(model: Model, recipe: Recipe, tokens: float) -> float:
    """Weights in 16 bits, an adapter with its gradient and Adam's two moments in 32, and the activations of a batch."""
    architecture = model.architecture
    hidden = architecture.shapes["q_proj"][1]
    batch = max(recipe.adapter.batch_size, recipe.calibration.batch_size)
    activations = _ACTIVATION_BYTES * batch * tokens * hidden * architecture.layers
    return (2 * model.parameters + 16 * adapter_parameters(architecture) + activations) / 2**30
