"""Records of the Everyday format: a dialogue with placeholders for names, and references for each task."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice, pairwise, zip_longest
from pathlib import Path
from typing import Literal, Self, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from calora.errors import CaloraError
from calora.storage import numbered_lines

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
Speaker = Literal["A", "B"]

_PLAIN = frozenset({"en", "es", "fr", "de", "professional", "casual", "humorous", "narrative"})
_KEYS = {"summary": _PLAIN | {"professional_es", "casual_fr", "humorous_de"}, "reply": _PLAIN}
_TURNS = (4, 9)
_LEAST_OF_A_DOMAIN = 3


class _References(BaseModel, ABC):
    """References by field (a primary task) and key (what secondary tasks make of it; `en` for nothing)."""

    id: str
    split: Split

    @abstractmethod
    def by_field(self) -> dict[str, dict[str, str]]:
        """Field to key to reference."""

    @property
    def fields(self) -> list[str]:
        """The fields that have references."""
        return [field for field, references in self.by_field().items() if references]

    def references(self, field: str) -> dict[str, str]:
        """The references of a primary task, by key.

        Raises:
            CaloraError: The record has no such field.
        """
        found = self.by_field().get(field)
        if not found:
            raise CaloraError(f"{self.id} has no references {field!r}", f"it has {', '.join(self.fields)}")
        return found


class Record(_References):
    """One dialogue with its references; names are the placeholders {A} and {B} everywhere.

    Args:
        id: DOMAIN-NNN.
        split: Fixed.
        topic: Two to six words.
        genders: Of A and of B.
        dialogue: (speaker, text) in turn.
        summary: Reference by key: `en`, a language, a tone, or a tone and a language.
        reply: Likewise, the turn that follows.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    topic: str
    genders: dict[Speaker, Literal["f", "m"]]
    dialogue: tuple[tuple[Speaker, str], ...]
    summary: dict[str, str]
    reply: dict[str, str]

    @property
    def domain(self) -> str:
        """The part of the id before the number."""
        return self.id.partition("-")[0]

    def by_field(self) -> dict[str, dict[str, str]]:
        """Field to key to reference."""
        return {"summary": self.summary, "reply": self.reply, **(self.__pydantic_extra__ or {})}

    @property
    def plain(self) -> str:
        """The dialogue with its placeholders."""
        return self.told({"A": "{A}", "B": "{B}"})

    def told(self, names: Mapping[Speaker, str]) -> str:
        """The dialogue, one line a turn, with the placeholders as they are."""
        return "\n".join(f"{names[speaker]}: {text}" for speaker, text in self.dialogue)

    @property
    def texts(self) -> list[str]:
        """Every turn and every reference."""
        return [*(text for _, text in self.dialogue), *self.summary.values(), *self.reply.values()]

    @model_validator(mode="after")
    def _follows_the_format(self) -> Self:
        if not re.fullmatch(r"[a-z]+-\d{3}", self.id):
            raise ValueError(f"id {self.id!r}: expected DOMAIN-NNN")
        if set(self.genders) != {"A", "B"}:
            raise ValueError("genders: expected one for A and one for B")
        if not _TURNS[0] <= len(self.dialogue) <= _TURNS[1]:
            raise ValueError(f"dialogue: {len(self.dialogue)} turns, expected {_TURNS[0]} to {_TURNS[1]}")
        speakers = [speaker for speaker, _ in self.dialogue]
        if any(one == other for one, other in pairwise(speakers)):
            raise ValueError("dialogue: the speakers must alternate")
        for field, expected in _KEYS.items():
            found = set(getattr(self, field))
            if found != expected:
                odd = ", ".join(sorted(found ^ expected))
                raise ValueError(f"{field}: missing or extra references: {odd}")
        for text in self.texts:
            if not text.strip():
                raise ValueError("an empty text")
            if re.search(r"[{}]", re.sub(r"\{[AB]\}", "", text)):
                raise ValueError(f"a placeholder other than {{A}} and {{B}} in {text!r}")
        return self


class OwnRecord(Record):
    """A record of one's own: any fields of references beside summary and reply, or instead of them."""

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, dict[str, str]]

    topic: str = ""
    summary: dict[str, str] = {}
    reply: dict[str, str] = {}

    @property
    def domain(self) -> str:
        """The part of an id such as `travel-12` before the number; `all` of one that is made otherwise."""
        numbered = re.fullmatch(r"(.+)-\d+", self.id)
        return numbered[1] if numbered else "all"

    @model_validator(mode="after")
    def _follows_the_format(self) -> Self:
        if set(self.genders) != {"A", "B"}:
            raise ValueError("genders: expected one for A and one for B")
        if not self.dialogue:
            raise ValueError("dialogue: no turns")
        return self


class TextRecord(_References):
    """A text as it stands with its references: what other data sets are read as.

    Args:
        id: Of the text, in its data set.
        split: As published.
        domain: Answers are told apart within it.
        group: Records of one conversation or talk, which belong into one split; None for a record of its own.
        text: A dialogue, one line a turn, or what a secondary task rewrites.
        names: That an answer may be masked by.
        targets: The references, by field and key.
        made: `FIELD.KEY` to how that reference was made, where no person wrote it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    domain: str = "all"
    group: str | None = None
    text: str
    names: tuple[str, ...] = ()
    targets: dict[str, dict[str, str]]
    made: dict[str, dict[str, str | float]] = {}

    def by_field(self) -> dict[str, dict[str, str]]:
        """Field to key to reference."""
        return self.targets

    @property
    def plain(self) -> str:
        """The text."""
        return self.text

    @model_validator(mode="after")
    def _has_a_text(self) -> Self:
        if not self.text.strip():
            raise ValueError("an empty text")
        return self


AnyRecord = Record | TextRecord
Kind = TypeVar("Kind", bound=_References)
One = TypeVar("One", bound=AnyRecord)


def holds_records(path: str | Path) -> bool:
    """Whether a file's first line looks like a `TextRecord`; a file that cannot be read has none."""
    try:
        with Path(path).open(encoding="utf-8") as lines:
            first = next((line for line in lines if line.strip()), "")
    except (OSError, UnicodeDecodeError):
        return False
    return '"targets":' in first and '"text":' in first


def read_own_records(path: str | Path) -> list[AnyRecord]:
    """Read a JSON Lines file of `TextRecord` or of `OwnRecord`: a line has either a `text` or a `dialogue`.

    Raises:
        CaloraError: Names the file, the line and what is wrong with it.
    """
    return [*read_records(path, TextRecord)] if holds_records(path) else [*read_records(path, OwnRecord)]


def read_records(path: str | Path, kind: type[Kind]) -> list[Kind]:
    """Read a JSON Lines file of records.

    Args:
        path: The file.
        kind: `Record` for the Everyday format, `OwnRecord` for fields of one's own, `TextRecord` for texts.

    Raises:
        CaloraError: Names the file, the line and what is wrong with it.
    """
    path = Path(path)
    records: list[Kind] = []
    seen: dict[str, int] = {}
    for number, line in numbered_lines(path):
        try:
            record = kind.model_validate_json(line)
        except ValidationError as error:
            first = error.errors()[0]
            if first["type"] == "json_invalid":
                raise CaloraError(f"{path}:{number}: not JSON: {first['msg']}", "expected one record a line") from error
            where = ".".join(map(str, first["loc"]))
            raise CaloraError(
                f"{path}:{number}: {where + ': ' if where else ''}{first['msg']}", "see the Everyday format's data card"
            ) from error
        if record.id in seen:
            raise CaloraError(f"{path}:{number}: id {record.id} is also on line {seen[record.id]}", "ids are unique")
        seen[record.id] = number
        records.append(record)
    if not records:
        raise CaloraError(f"{path} holds no records", "expected one JSON record a line")
    return records


def spread(records: Sequence[One], wanted: int | None, *, least: int = _LEAST_OF_A_DOMAIN) -> list[One]:
    """As many records as wanted, the same number of each domain as far as that goes.

    Args:
        records: Of one split.
        wanted: How many; None takes all.
        least: A domain gives so many or none, as long as there are enough in those that do: retrieval within a domain
            of one dialogue cannot miss.
    """
    if wanted is None or wanted >= len(records):
        return list(records)
    domains: dict[str, list[One]] = {}
    for record in records:
        domains.setdefault(record.domain, []).append(record)
    count = max(1, min(len(domains), wanted // least))
    first = [list(domains)[index * len(domains) // count] for index in range(count)]
    rounds = chain(_rounds([domains.pop(name) for name in first]), _rounds(list(domains.values())))
    chosen = {record.id for record in islice(rounds, wanted)}
    return [record for record in records if record.id in chosen]


def _rounds(groups: Sequence[Sequence[One]]) -> Iterator[One]:
    """The first of each group, then the second of each, as far as they go."""
    return (record for one_round in zip_longest(*groups) for record in one_round if record is not None)
