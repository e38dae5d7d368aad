"""What every teacher is: settings that can answer texts and say who answered."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict


class BaseTeacher(BaseModel, ABC):
    """A teacher's settings; nothing is loaded or started before the first text."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @abstractmethod
    def answer(self, texts: Sequence[str]) -> list[str | None]:
        """What it makes of each text; None where it gave no answer.

        Args:
            texts: Texts of one line or several, none empty.

        Raises:
            CaloraError: It cannot work at all.
        """

    @abstractmethod
    def about(self) -> dict[str, str]:
        """Which teacher it is, its version and its prompt: what is written beside everything that it makes."""

    @property
    def words(self) -> tuple[str, ...]:
        """Pieces of its prompt that no answer should hold."""
        return ()
