"""Where a cell is made: the records, the backbone, and what names them when artefacts are looked for."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from calora.backbone import Backbone
from calora.backbone_files import backbone_sha256, reading_sha256
from calora.bench.recipe import Recipe
from calora.corpus import (
    AnyRecord,
    Example,
    Split,
    fields_for,
    holds_records,
    load_everyday,
    make_examples,
    one_each,
    read_own_records,
    read_pairs,
    records_for,
    spread,
)
from calora.errors import CaloraError
from calora.storage import fingerprint, sha256_of
from calora.tasks import TASKS, Composition, Task

if TYPE_CHECKING:
    from calora.training.data import ExamplesOf
    from calora.vllm_generation import VllmGenerator

EVALUATION_SEED = 0


@dataclass
class Workplace:
    """What the cells of a recipe share; each thing is loaded when it is first asked for.

    Args:
        recipe: The recipe.
        load: Gives a backbone by its name.
    """

    recipe: Recipe
    load: Callable[[str], Backbone] = Backbone.load
    _backbones: dict[str, Backbone] = field(default_factory=dict)
    _vllm: "dict[str, VllmGenerator]" = field(default_factory=dict)
    _sha256: dict[str, str] = field(default_factory=dict)
    _reading: dict[str, str | None] = field(default_factory=dict)
    _records: dict[Split, list[AnyRecord]] = field(default_factory=dict)
    _data_keys: dict[tuple[Split, str], str] = field(default_factory=dict)

    def backbone(self, name: str) -> Backbone:
        """A backbone; only the last one is kept in memory."""
        if name not in self._backbones:
            self._backbones = {name: self.load(name)}
        return self._backbones[name]

    def vllm(self, name: str) -> "VllmGenerator":
        """A backbone in vLLM; only the last one is kept."""
        if name not in self._vllm:
            from calora.vllm_generation import VllmGenerator

            self._vllm = {}  # the old one goes before the new one takes its share of the GPU
            self._vllm = {name: VllmGenerator(self.backbone(name))}
        return self._vllm[name]

    def sha256(self, name: str) -> str:
        """Of a backbone, which need not be loaded for it."""
        if name not in self._sha256:
            self._sha256[name] = backbone_sha256(name)
        return self._sha256[name]

    def reading_sha256(self, name: str) -> str | None:
        """Of what turns a text into a backbone's tokens, where its SHA-256 does not cover that."""
        if name not in self._reading:
            self._reading[name] = reading_sha256(name)
        return self._reading[name]

    def records(self, split: Split) -> list[AnyRecord]:
        """The records of a split that the recipe takes."""
        if split not in self._records:
            data = self.recipe.data
            paths = data.tested_on if split == "test" and data.tested_on else data.records
            given = [record for path in paths for record in read_own_records(path)] or load_everyday()
            twice = [name for name, count in Counter(record.id for record in given).items() if count > 1]
            if twice:
                raise CaloraError(
                    f"two records of {', '.join(map(str, paths))} are called {twice[0]}",
                    "ids are unique over all files of a recipe: compose one of them with an `id` column or a `name`",
                )
            wanted = {"train": data.train, "validation": data.validation, "test": data.test}[split]
            taken = spread([record for record in given if record.split == split], wanted)
            self._refuse_leaks(split, taken)
            self._records[split] = taken
        return self._records[split]

    def check_asked(self, composition: Composition) -> None:
        """Refuse records that a composition cannot be asked of, before hours of training.

        Raises:
            CaloraError: Fewer than two test records have references for it.
        """
        found = len(records_for(self.records("test"), composition))
        if found < 2:
            raise CaloraError(
                f"{found or 'no'} test record{'s' * (found != 1)} of `data` can be asked for {composition}",
                "a cell needs two at least: give records of a test split, or `deal` them when you compose",
            )

    def _refuse_leaks(self, split: Split, taken: Sequence[AnyRecord]) -> None:
        """Refuse a split with a text of another one that was read, whatever their ids.

        Raises:
            CaloraError: Names the first.
        """
        texts = {_plain(record.plain): record.id for record in taken}
        for other, records in self._records.items():
            for record in records:
                if (twin := texts.get(_plain(record.plain))) is not None:
                    raise CaloraError(
                        f"{split} record {twin} has the text of {other} record {record.id}",
                        "what is tested on must not be learnt from: compose the files together (docs/data.md)",
                    )

    def check_outside(self, task: str, asked: Sequence[Composition]) -> None:
        """Refuse a file that teaches an adapter what something is chosen by, or chooses it by what is tested on.

        Args:
            task: Whose adapter learns from a file of its own.
            asked: The compositions of the recipe.

        Raises:
            CaloraError: Names the first.
        """
        taught, chosen_by = self.outside(task, "train"), self.outside(task, "validation")
        later: dict[Split, list[Example]] = {"validation": taught, "test": taught + chosen_by}
        for split, pairs in later.items():
            kept = {
                _plain(example.target): f"{split} record {example.id}, asked for {composition}"
                for composition in asked
                if task in [one.name for one in composition.tasks]
                for example in one_each(
                    records_for(self.records(split), composition), composition, seed=EVALUATION_SEED
                )
            }
            for pair in pairs:
                if (twin := kept.get(_plain(pair.target))) is not None:
                    raise CaloraError(
                        f"{self.recipe.data.outside[task]}: pair {pair.id} has the reference of {twin}",
                        f"leave what is for {split} out of it",
                    )

    def outside(self, task: str, split: Split) -> list[Example]:
        """What an adapter of another domain learns from, or is validated on: of pairs every tenth is held out."""
        path = self.recipe.data.outside[task]
        if holds_records(path):
            wanted = self.recipe.parse(task)
            records = [r for r in read_own_records(path) if r.split == split and fields_for(r, wanted)]
            return make_examples(records, wanted, seed=EVALUATION_SEED)
        pairs = read_pairs(path)
        held = slice(None, None, 10)
        return pairs[held] if split == "validation" else [pair for i, pair in enumerate(pairs) if i % 10]

    def outside_key(self, task: str) -> str:
        """The SHA-256 of the file that a task's adapter learns from instead of the records."""
        return sha256_of(self.recipe.data.outside[task])

    def asked(self, composition: Composition) -> list[Example]:
        """The test examples of a composition: the same in every run."""
        return Case(self, self.recipe.backbones[0], composition, self.recipe.seeds[0]).evaluation_examples("test")

    def data_key(self, split: Split, composition: Composition) -> str:
        """The fingerprint of what a split has for a composition; other records may come and go."""
        place = split, str(composition)
        if place not in self._data_keys:
            content = [record.model_dump(mode="json") for record in self.records_of(split, composition)]
            self._data_keys[place] = fingerprint(content)
        return self._data_keys[place]

    def records_of(self, split: Split, composition: Composition) -> list[AnyRecord]:
        """The records of a split that have references for a composition; all where none has, to be told of it."""
        records = self.records(split)
        return records_for(records, composition) or records


@dataclass(frozen=True)
class Case:
    """One composition with one backbone and one seed: what an approach is planned for.

    Args:
        place: What it shares with other cases.
        backbone_name: As for `Backbone.load`.
        composition: What is asked for.
        seed: Of training.
        examples: How many training dialogues to learn from; all if None.
        without: A domain that nothing is learnt from, nor validated on.
    """

    place: Workplace
    backbone_name: str
    composition: Composition
    seed: int
    examples: int | None = None
    without: str | None = None

    @property
    def backbone(self) -> Backbone:
        """The backbone, loaded when first asked for."""
        return self.place.backbone(self.backbone_name)

    @property
    def recipe(self) -> Recipe:
        """The recipe."""
        return self.place.recipe

    def of(self, *tasks: Task) -> "Case":
        """The same for other tasks."""
        return replace(self, composition=Composition(tasks))

    def training_examples(self, split: Split) -> "ExamplesOf":
        """Epoch to examples, with other names in each.

        Raises:
            CaloraError: The domain that is left out does not exist, or nothing is left of the split without it.
        """
        if self._outside:
            return partial(_same, self.place.outside(str(self.composition), split))
        domains = {record.domain for record in self.place.records("train")}
        if self.without is not None and self.without not in domains:
            raise CaloraError(f"no dialogue is of the domain {self.without}", f"domains: {', '.join(sorted(domains))}")
        records = [r for r in self.place.records_of(split, self.composition) if r.domain != self.without]
        if not records and self.without is None:
            raise no_records(split, self.composition)
        if not records:
            raise CaloraError(f"without {self.without} no {split} dialogue is left", "take more dialogues in `data`")
        if split == "train":
            records = spread(records, self.examples, least=1)
        return partial(_examples, records, self.composition, self.seed)

    def training_texts(self, split: Split) -> list[Example]:
        """Examples of the first task, for an approach that reads the texts alone and needs no composed reference."""
        return list(self.of(self.composition.tasks[0]).training_examples(split)(0))

    def evaluation_examples(self, split: Split) -> list[Example]:
        """Examples to answer, the same names in every run."""
        return one_each(self.place.records_of(split, self.composition), self.composition, seed=EVALUATION_SEED)

    @property
    def _outside(self) -> bool:
        """Whether this is a single task whose adapter learns from pairs of another domain."""
        return str(self.composition) in self.recipe.data.outside

    def training_settings(self) -> dict[str, Any]:
        """As `settings`, of an adapter: one that learns from a file of its own sees no records."""
        if not self._outside:
            return self.settings("train", "validation")
        return self.settings() | {"outside": self.place.outside_key(str(self.composition))}

    def settings(self, *splits: Split) -> dict[str, Any]:
        """What everything made here depends on: the backbone, the seed, the prompt's words and the data."""
        outside = self.place.outside_key(str(self.composition)) if self._outside and "train" in splits else None
        languages = [
            task.language
            for task in self.composition.tasks
            if task.language and (task.name not in TASKS or task.language != task.name)
        ]
        part = {
            "reading": self.place.reading_sha256(self.backbone_name),
            "examples": self.examples,
            "without": self.without,
            "outside": outside,
            "languages": languages or None,
        }
        return {
            "backbone": self.place.sha256(self.backbone_name),
            "composition": str(self.composition),
            "words": [self.composition.instruction, self.composition.label],
            "fields": [task.key for task in self.composition.tasks],
            "seed": self.seed,
            "data": {split: self.place.data_key(split, self.composition) for split in splits},
            **{name: value for name, value in part.items() if value is not None},
        }


def no_records(split: Split, composition: Composition | str) -> CaloraError:
    """What is said where a split has nothing for a composition."""
    return CaloraError(
        f"no {split} record of `data` has a reference for {composition}",
        "give records of that split, or `deal` them when you compose",
    )


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _same(examples: list[Example], epoch: int) -> list[Example]:
    return examples


def _examples(records: Sequence[AnyRecord], composition: Composition, seed: int, epoch: int) -> list[Example]:
    return make_examples(records, composition, seed=seed, epoch=epoch)
