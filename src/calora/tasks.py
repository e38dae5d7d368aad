"""Tasks, compositions of tasks, and the prompt that asks for each.

A primary task reads a dialogue; a secondary one rewrites or translates a text. A composition applies
them in order (`summary+professional+es`); a single task is a composition of one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from calora.errors import CaloraError

Role = Literal["primary", "tone", "language"]
Metric = Literal["rougeL", "weighted"]
_ORDER: tuple[Role, ...] = ("primary", "tone", "language")


@dataclass(frozen=True)
class Task:
    """One thing to do to a text.

    Args:
        name: The word used in compositions, such as `summary` or `es`.
        role: What it does: answer a dialogue, change a tone, or translate.
        instruction: The request when the task stands alone.
        then: The same request when it follows another task.
        label: What the answer is called, in lower case but for languages.
        field: Where records hold a primary task's references, the key of a secondary one's; the name if None.
        metric: The ROUGE by which a primary task's answers are compared, the paper's choice.
        language: Two-letter code of a language task's language; the name if None.
    """

    name: str
    role: Role
    instruction: str
    then: str
    label: str
    field: str | None = None
    metric: Metric = "rougeL"
    language: str | None = None

    @property
    def key(self) -> str:
        """The field, or the name where the two are one."""
        return self.field or self.name


def _tone(name: str, article: str = "a") -> Task:
    request = f"in {article} {name} tone."
    return Task(name, "tone", f"Rewrite the text {request}", f"rewrite it {request}", name)


def _language(name: str, label: str) -> Task:
    return Task(name, "language", f"Translate the text into {label}.", f"translate it into {label}.", label)


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task("summary", "primary", "Summarize the dialogue.", "summarize it.", "summary"),
        Task("reply", "primary", "Reply to the dialogue.", "reply to it.", "reply", metric="weighted"),
        _tone("professional"),
        _tone("casual"),
        _tone("humorous"),
        _tone("narrative"),
        _language("es", "Spanish"),
        _language("fr", "French"),
        _language("de", "German"),
    )
}


@dataclass(frozen=True)
class Composition:
    """Tasks applied in order to one text."""

    tasks: tuple[Task, ...]

    @classmethod
    def parse(cls, text: str, known: Mapping[str, Task] = TASKS) -> "Composition":
        """Read `summary+es`.

        Args:
            text: Names joined by `+`.
            known: The tasks there are, by name.

        Raises:
            CaloraError: A task is unknown, comes twice or stands in the wrong place.
        """
        names = [name.strip() for name in text.split("+")]
        for name in names:
            if name not in known:
                raise CaloraError(f"unknown task {name!r} in composition {text!r}", f"tasks: {', '.join(known)}")
        tasks = tuple(known[name] for name in names)
        places = [_ORDER.index(task.role) for task in tasks]
        if len(set(places)) < len(places):
            raise CaloraError(
                f"composition {text!r} has two tasks of one kind",
                "take at most one of each kind: a primary task, a tone, a language",
            )
        if places != sorted(places):
            ordered = "+".join(task.name for task in sorted(tasks, key=lambda task: _ORDER.index(task.role)))
            raise CaloraError(f"composition {text!r} is in the wrong order", f"write {ordered!r}")
        return cls(tasks)

    def __str__(self) -> str:
        return "+".join(task.name for task in self.tasks)

    @property
    def primary(self) -> Task | None:
        """The task that reads the dialogue, if the composition has one."""
        return self.tasks[0] if self.tasks[0].role == "primary" else None

    @property
    def secondary(self) -> tuple[Task, ...]:
        """The tasks that rewrite or translate."""
        return self.tasks[1:] if self.primary else self.tasks

    @property
    def language(self) -> str:
        """The two-letter code of the language of the answer."""
        last = self.tasks[-1]
        return (last.language or last.name) if last.role == "language" else "en"

    @property
    def metric(self) -> Metric:
        """The ROUGE by which the answers are compared: the first task's."""
        return self.tasks[0].metric

    @property
    def instruction(self) -> str:
        """The request in words, each task named."""
        return " Then ".join([self.tasks[0].instruction, *(task.then for task in self.tasks[1:])])

    @property
    def label(self) -> str:
        """What the answer is, such as `Professional Spanish summary`."""
        words = " ".join(task.label for task in (*self.secondary, *([self.primary] if self.primary else [])))
        return words[0].upper() + words[1:]


@dataclass(frozen=True)
class Prompt:
    """The text around the user's text, exactly as the model was trained on it.

    Args:
        before: What stands in front of the user's text, special tokens included.
        after: What stands behind it.
        lead: What joins the prompt and the answer: a space in plain text, nothing in a chat template.
    """

    before: str
    after: str
    lead: str

    @classmethod
    def for_composition(cls, composition: Composition, chat: Callable[[str], str] | None, bos: str = "") -> "Prompt":
        """Build the prompt of a composition.

        Args:
            composition: What to ask for; every task is named.
            chat: Renders one user message with the tokenizer's chat template; None for plain text.
            bos: The text of the token a plain prompt begins with.
        """
        mark = "\x00"
        if chat is not None:
            before, _, after = chat(f"{composition.instruction}\n\n{mark}").partition(mark)
            return cls(before, after, "")
        return cls(f"{bos}{composition.instruction}\n\n", f"\n\n{composition.label}:", " ")
