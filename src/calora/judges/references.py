"""References of other compositions: what the same record says in another tone, another language or as another task."""

from collections.abc import Sequence
from typing import NamedTuple

from calora.corpus import AnyRecord, Example, make_examples
from calora.errors import CaloraError
from calora.tasks import TASKS, Composition, Task

TONES = tuple(task for task in TASKS.values() if task.role == "tone")
PRIMARIES = tuple(task for task in TASKS.values() if task.role == "primary")


class Parts(NamedTuple):
    """The tasks of a composition by role."""

    primary: Task
    tone: Task | None
    language: Task | None

    @property
    def composition(self) -> Composition:
        """The tasks in order."""
        return Composition(tuple(task for task in self if task is not None))


def parts_of(composition: Composition) -> Parts:
    """Take a composition apart.

    Raises:
        CaloraError: It has no primary task, and so no dialogue to be judged against.
    """
    if composition.primary is None:
        raise CaloraError(
            f"{composition} has no primary task to judge", "name one first, as in 'summary+es' or 'reply+casual'"
        )
    by_role = {task.role: task for task in composition.tasks}
    return Parts(composition.primary, by_role.get("tone"), by_role.get("language"))


def find_references(records: Sequence[AnyRecord], parts: Parts, seed: int) -> list[Example] | None:
    """The examples of a composition, or None where the records have no references for it.

    Args:
        records: In the order wanted.
        parts: The composition.
        seed: Of the names; equal seeds give equal names in every composition.
    """
    try:
        return make_examples(records, parts.composition, seed=seed)
    except CaloraError:
        return None
