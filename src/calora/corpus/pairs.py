"""One's own examples: JSON lines with a text and its target."""

import json
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from calora.corpus.examples import Example
from calora.errors import CaloraError
from calora.storage import numbered_lines, write_text


class _Pair(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    text: str
    target: str
    id: str | None = None
    domain: str = "all"
    names: tuple[str, ...] = ()


def read_pairs(path: str | Path) -> list[Example]:
    """Read lines of {"text", "target"}, and where wanted "id", "domain" and "names".

    Raises:
        CaloraError: Names the file, the line and what is wrong with it.
    """
    path = Path(path)
    examples = []
    for number, line in numbered_lines(path):
        try:
            pair = _Pair.model_validate_json(line)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise CaloraError(
                f"{path}:{number}: {where + ': ' if where else ''}{first['msg']}",
                'expected {"text": "...", "target": "..."}',
            ) from error
        if not pair.text.strip() or not pair.target.strip():
            raise CaloraError(f"{path}:{number}: an empty text or target", "leave the line out")
        if "\n" in pair.target.strip():
            raise CaloraError(
                f"{path}:{number}: a target of several lines", "write it on one: an answer ends at its first line break"
            )
        examples.append(Example(pair.id or str(number), pair.domain, pair.text, pair.target, pair.names))
    if not examples:
        raise CaloraError(f"{path} holds no examples", 'expected {"text": "...", "target": "..."} a line')
    return examples


def write_pairs(examples: Iterable[Example], path: str | Path) -> None:
    """Write what `read_pairs` reads."""
    lines = (
        json.dumps(
            {"id": e.id, "domain": e.domain, "text": e.text, "target": e.target, "names": e.names}, ensure_ascii=False
        )
        for e in examples
    )
    write_text(Path(path), "\n".join(lines) + "\n")
