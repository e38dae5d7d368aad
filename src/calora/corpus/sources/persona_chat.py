"""Synthetic Persona Chat: conversations of two people, each turn but the first a reply to what came before."""

import re
from collections.abc import Iterable, Iterator

from calora.corpus.records import Split, TextRecord
from calora.corpus.sources.registry import Row, columns, source

_TURN = re.compile(r"[\s*]*(User [12]):[\s*]*(.*?)[\s*]*$")  # three validation conversations are set in Markdown


@source(
    name="persona-chat",
    title="Synthetic Persona Chat",
    gives="reply (en)",
    licence="CC BY 4.0",
    link="https://github.com/google-research-datasets/Synthetic-Persona-Chat",
    hub="google/Synthetic-Persona-Chat",
    files={
        split: (f"data/Synthetic-Persona-Chat_{short}.csv", f"Synthetic-Persona-Chat_{short}.csv")
        for split, short in (("train", "train"), ("validation", "valid"), ("test", "test"))
    },
    seen=True,
)
def persona_chat(rows: Iterable[Row], split: Split) -> Iterator[TextRecord]:
    """Read the conversations; the text of a record is what was said before the turn that is its reply.

    A line that names no speaker goes on with the turn before it. The personas are left out, as in the paper.
    """
    for number, row in enumerate(rows):
        (conversation,) = columns(row, "Best Generated Conversation")
        turns = turns_of(conversation)
        for place in range(1, len(turns)):
            yield TextRecord(
                id=f"{split}-{number}-{place}",
                split=split,
                domain="persona-chat",
                group=f"{split}-{number}",
                text="\n".join(f"{speaker}: {said}" for speaker, said in turns[:place]),
                names=("User 1", "User 2"),
                targets={"reply": {"en": turns[place][1]}},
            )


def turns_of(conversation: str) -> list[tuple[str, str]]:
    """(speaker, what was said) of `User 1: ...` lines; turns without a word are left out."""
    turns: list[tuple[str, str]] = []
    for line in conversation.splitlines():
        found = _TURN.match(line)
        if found:
            turns.append((found[1], found[2].strip()))
        elif turns and line.strip():
            speaker, said = turns[-1]
            turns[-1] = (speaker, f"{said} {line.strip()}".strip())
    return [(speaker, said) for speaker, said in turns if said]
