"""Artefacts that are made once and found again by what they were made from, never by name alone.

Several processes may share a store: whoever makes something holds its lock, which ends with the process.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

from filelock import FileLock, Timeout

from calora.storage import fingerprint, sha256_of, slug, write_text

Value = TypeVar("Value")
WAIT = 2.0  # seconds between two looks at what another process makes


@dataclass(frozen=True)
class Made(Generic[Value]):
    """The artefact of a step: where it lies and what was read from there."""

    path: Path
    value: Value


@dataclass(frozen=True)
class Step(Generic[Value]):
    """Something to be made once: an adapter, a calibration, the choice of a setting, a cell.

    Args:
        kind: Such as `adapter`; steps of a kind take about the same time.
        name: For people, and the first part of its file's name.
        settings: All that it depends on beside its parents, the version of the code that makes it included; JSON.
        parents: Steps whose values it is made from.
        learns_from: The compositions whose examples it is trained on, where they are others than its own.
        make: Writes the artefact, whole or not at all: (target, a folder for checkpoints, what the parents gave).
        read: Reads it back, so that what goes on is what was stored.
    """

    kind: str
    name: str
    settings: Mapping[str, Any]
    make: Callable[[Path, Path, list[Made[Any]]], None]
    read: Callable[[Path], Value]
    parents: "tuple[Step[Any], ...]" = ()
    learns_from: tuple[str, ...] = ()

    @cached_property
    def key(self) -> str:
        """The fingerprint of everything that the artefact depends on."""
        return fingerprint([self.kind, dict(self.settings), [parent.key for parent in self.parents]])

    @property
    def parts(self) -> Sequence[Mapping[str, Any]]:
        """Its settings; those of each member where it is made for several compositions together."""
        members: Sequence[Mapping[str, Any]] = self.settings.get("members", [self.settings])
        return members

    @property
    def examples_of(self) -> tuple[str, ...]:
        """The compositions whose examples it is trained on or chosen by."""
        return self.learns_from or tuple(part["composition"] for part in self.parts if "composition" in part)

    def lineage(self) -> "Iterator[Step[Any]]":
        """The step's ancestors and itself, parents first; one that is reached twice comes twice."""
        for parent in self.parents:
            yield from parent.lineage()
        yield self


class StepFailedError(Exception):
    """A step could not be made; what needs it cannot be made either.

    Args:
        step: The one that failed first.
        reason: What it raised.
    """

    def __init__(self, step: Step[Any], reason: BaseException) -> None:
        super().__init__(f"{step.kind} {step.name}: {reason}")
        self.step = step
        self.reason = reason


class BusyError(Exception):
    """Another process is making it."""


@dataclass
class Store:
    """A folder of artefacts: `KIND/NAME-KEY`, with a record of how each was made in `records/KEY.json`.

    Args:
        folder: Where they lie.
        follow: Told of each step that is about to be made.
    """

    folder: Path
    follow: Callable[[Step[Any]], None] = lambda _: None
    failed: dict[str, StepFailedError] = field(default_factory=dict)
    _values: dict[str, Any] = field(default_factory=dict)

    def path(self, step: Step[Any]) -> Path:
        """Where a step's artefact lies, or will."""
        return self.folder / step.kind / f"{slug(step.name)}-{step.key}"

    def has(self, step: Step[Any]) -> bool:
        """Whether the artefact is there."""
        return self.path(step).exists()

    def get(self, step: Step[Value]) -> Value:
        """The value of a step, which is made first, with what it needs, unless it is there.

        It is made again where one of its parents was: a calibration serves only the adapters that it was learnt on.

        Raises:
            StepFailedError: It, or one of its ancestors, could not be made, now or before.
            BusyError: It, or one of its ancestors, is being made by another process.
        """
        if step.key in self._values:
            value: Value = self._values[step.key]
            return value
        if step.key in self.failed:
            raise self.failed[step.key]
        try:
            if not self._is_current(step):
                parents = [Made(self.path(parent), self.get(parent)) for parent in step.parents]
                with self.alone(step.key):
                    if not self._is_current(step):
                        self._make(step, parents)
            self._values[step.key] = step.read(self.path(step))
        except BusyError:
            raise
        except StepFailedError as error:
            self.failed[step.key] = error
            raise
        except Exception as error:
            self.failed[step.key] = StepFailedError(step, error)
            raise self.failed[step.key] from error
        return self._values[step.key]  # type: ignore[no-any-return]

    def wait_for(self, step: Step[Value]) -> Value:
        """As `get`, but what another process makes is waited for."""
        while True:
            try:
                return self.get(step)
            except BusyError:
                time.sleep(WAIT)

    @contextmanager
    def alone(self, key: str) -> Iterator[None]:
        """Be the only process that makes what has this key, for as long as the block lasts.

        Raises:
            BusyError: Another one is at it.
        """
        path = self.folder / "locks" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise BusyError(key) from error
        try:
            yield
        finally:
            lock.release()

    def forget(self) -> None:
        """Drop the values that are held in memory."""
        self._values.clear()

    def times(self) -> "Iterator[tuple[str, float]]":
        """Kind and seconds of every step that was made here."""
        for path in (self.folder / "records").glob("*.json"):
            record = json.loads(path.read_text(encoding="utf-8"))
            yield record["kind"], float(record["seconds"])

    def record(self, step: Step[Any]) -> dict[str, Any] | None:
        """How a step was made: kind, name, settings, seconds, the parents' keys and content; None if it was not."""
        path = self._record_path(step)
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def _is_current(self, step: Step[Any]) -> bool:
        """Whether the artefact is there, and made from its parents as they are now, as far as these are there."""
        if not self.has(step):
            return False
        record = self.record(step)
        if record is None:
            return not step.parents  # a run that was killed before it told what it is made from
        made_from = record.get("made_from", {})
        return all(
            self._is_current(parent) and made_from.get(parent.key) in (None, _content(self.path(parent)))
            for parent in step.parents
            if self.has(parent)
        )

    def _make(self, step: Step[Any], parents: list[Made[Any]]) -> None:
        self.follow(step)
        made_from = {one.key: _content(made.path) for one, made in zip(step.parents, parents, strict=True)}
        # What was begun with other parents' values is not gone on with.
        work = self.folder / "work" / (fingerprint([step.key, made_from]) if made_from else step.key)
        begin = time.monotonic()
        step.make(self.path(step), work, parents)
        record = {
            "kind": step.kind,
            "name": step.name,
            "seconds": round(time.monotonic() - begin, 1),
            "settings": dict(step.settings),
            "parents": [parent.key for parent in step.parents],
            "made_from": made_from,
        }
        write_text(self._record_path(step), json.dumps(record, indent=2, ensure_ascii=False) + "\n")
        shutil.rmtree(work, ignore_errors=True)

    def _record_path(self, step: Step[Any]) -> Path:
        return self.folder / "records" / f"{step.key}.json"


def _content(artefact: Path) -> str:
    """A fingerprint of what an artefact holds; a folder's cards, which tell how it was made, aside."""
    if artefact.is_file():
        return sha256_of(artefact)
    return fingerprint({file.name: sha256_of(file) for file in sorted(artefact.iterdir()) if file.suffix != ".json"})
