"""What a device offers, and what it gives: ways of an answer, its passes, a whole answer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from calora.serving.bundle import BundleCard
from calora.tasks import Prompt

Way = Literal["calibrated", "merge", "multi-step", "backbone"]
WAYS: tuple[Way, ...] = get_args(Way)


@dataclass(frozen=True)
class Step:
    """One pass: its prompt, and the adapters that are on."""

    prompt: Prompt
    scales: Mapping[str, float]


@dataclass(frozen=True)
class Reply:
    """An answer.

    Args:
        text: Stripped.
        passes: Runs of the model.
        tokens: Generated, over all passes.
        prompt_tokens: Read, over all passes.
        truncated: Whether it ended for want of room.
        seconds: From request to end.
    """

    text: str
    passes: int
    tokens: int
    prompt_tokens: int
    truncated: bool
    seconds: float


@dataclass(frozen=True)
class Menu:
    """What a device offers at one moment.

    Args:
        card: Of the bundle.
        offers: Every name with every way in which it can be answered.
        parameters: Composition to the number of parameters that were learnt for it.
    """

    card: BundleCard
    offers: list[tuple[str, Way]]
    parameters: dict[str, int]
