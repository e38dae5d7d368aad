"""Cells: one approach on one composition, its answers, scores and costs, in one JSON file."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from calora.bench.recipe import Recipe
from calora.corpus import Example
from calora.errors import CaloraError
from calora.generation import Answer
from calora.metrics import RougeTokenizer, score_answers
from calora.sizes import mebibytes
from calora.storage import fingerprint, numbered_lines, read_card, slug, write_text

CellPlace = tuple[str, str, str, int]  # label of the row, composition, backbone_label, seed


class Costs(BaseModel):
    """What a request costs, and what the approach adds to the adapters that are there anyway.

    Args:
        passes: Runs of the model a request.
        seconds: Mean computing time a request, decoded in batches.
        tokens: Mean generated tokens a request, over all passes.
        prompt_tokens: Mean tokens that were read a request, over all passes.
        shared_by: How many compositions the parameters serve.
        times_bare: Time of a request when each pass generates just so many tokens, as a multiple of one such pass of
            the bare backbone, taken in turn with it, 1 where it is just that; None where it was not measured.
        peak_mebibytes: The most memory that answering took beside the loaded backbone and adapters; None likewise.
        parameters: Learnt for the composition; None where nothing says how many (never in a grid).
        updates: Steps of the training that learnt them.
        examples: That were seen in it, an example once an epoch.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    passes: int
    seconds: float
    tokens: float
    parameters: int | None
    updates: int = 0
    examples: int = 0
    prompt_tokens: float = 0.0
    shared_by: int = 1
    times_bare: float | None = None
    peak_mebibytes: float | None = None

    @property
    def mebibytes(self) -> float | None:
        """Size of the parameters in bfloat16, in MiB."""
        return None if self.parameters is None else mebibytes(self.parameters)


class Cell(BaseModel):
    """One row of a results table; the answers and their scores lie beside it, in predictions/.

    Args:
        composition: What was asked for.
        approach: Its name; in a benchmark the label of its row and the setting, such as `linear (tuned)`.
        title: Of its row.
        backbone: Its name.
        seed: Of training.
        n: Dialogues.
        scores: Mean over dialogues of every measure.
        chance: What retrieval gives by guessing, in percent.
        truncated: Answers that ended for want of room.
        costs: Of a request.
        options: What a benchmark's row set.
        key: Fingerprint of all that the cell depends on; a cell with another key is made again.
        provenance: What it was made from.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    composition: str
    approach: str
    title: str
    backbone: str
    seed: int
    n: int
    scores: dict[str, float]
    chance: float
    truncated: int
    costs: Costs
    options: dict[str, Any] = {}
    key: str = ""
    provenance: dict[str, Any] = {}


def write_cell(
    path: Path,
    examples: Sequence[Example],
    answers: Sequence[Answer],
    language: str,
    head: dict[str, Any],
    passes: int,
    parameters: int | None,
    rouge_tokenizer: RougeTokenizer = "unicode",
    *,
    updates: int = 0,
    seen: int = 0,
    shared_by: int = 1,
    times_bare: float | None = None,
    peak_mebibytes: float | None = None,
    texts: bool = True,
) -> None:
    """Score answers and write the cell and its predictions.

    Args:
        path: Of the cell, `cells/NAME.json`; predictions go to `predictions/NAME.jsonl`.
        examples: What was asked, with references.
        answers: What came.
        language: That was asked for.
        head: composition, approach, title, backbone, seed and provenance.
        passes: Runs of the model a request.
        parameters: Learnt for the composition; None where that is not known.
        rouge_tokenizer: `unicode`, or `paper`'s, which drops accented letters.
        updates: Steps of the training for the composition.
        seen: Examples that were seen in it.
        shared_by: How many compositions the parameters serve.
        times_bare: Time at equal tokens, see `Costs`.
        peak_mebibytes: Of answering, see `Costs`.
        texts: Whether predictions repeat the dialogue and the reference, which the ids name as well.
    """
    scored = score_answers(
        [answer.text for answer in answers],
        [example.target for example in examples],
        [example.names for example in examples],
        [example.domain for example in examples],
        language,
        rouge_tokenizer=rouge_tokenizer,
    )
    n = len(examples)
    lines = [
        json.dumps(
            {
                "id": example.id,
                "domain": example.domain,
                **({"text": example.text, "reference": example.target} if texts else {}),
                "answer": answer.text,
                "tokens": answer.tokens,
                "truncated": answer.truncated,
                "scores": {key: round(value, 3) for key, value in row.items()},
            },
            ensure_ascii=False,
        )
        for example, answer, row in zip(examples, answers, scored.rows, strict=True)
    ]
    write_text(predictions_file(path), "\n".join(lines) + "\n")
    costs = Costs(
        passes=passes,
        seconds=sum(answer.seconds for answer in answers) / n,
        tokens=sum(answer.tokens for answer in answers) / n,
        parameters=parameters,
        updates=updates,
        examples=seen,
        prompt_tokens=sum(answer.prompt_tokens for answer in answers) / n,
        shared_by=shared_by,
        times_bare=times_bare,
        peak_mebibytes=peak_mebibytes,
    )
    cell = Cell(
        **head,
        n=n,
        scores={key: round(value, 4) for key, value in scored.means.items()},
        chance=scored.chance,
        truncated=sum(answer.truncated for answer in answers),
        costs=costs,
    )
    write_text(path, cell.model_dump_json(indent=2) + "\n")


def read_cell(path: Path) -> Cell:
    """Read a cell.

    Raises:
        CaloraError: It is missing or not a cell.
    """
    return read_card(path, Cell)


def read_predictions(path: Path) -> list[dict[str, Any]]:
    """The predictions that belong to a cell's file."""
    return [json.loads(line) for _, line in numbered_lines(predictions_file(path))]


def cell_stem(composition: str, approach: str, backbone: str, seed: int) -> str:
    """The name of a cell's files, without its ending."""
    return slug(f"{composition}--{approach}--{backbone_label(backbone)}--{seed}")


def backbone_label(name_or_path: str) -> str:
    """A backbone's name as a part of a file's name: a hub id whole, of a path the last part."""
    path = Path(name_or_path.removesuffix(".gguf"))
    is_path = name_or_path.endswith(".gguf") or path.is_absolute() or path.exists()
    return slug(path.name if is_path else str(path))


def place_of(cell: Cell) -> CellPlace:
    """Where a cell stands in a grid; a backbone may be reached by another path now."""
    return cell.approach, cell.composition, backbone_label(cell.backbone), cell.seed


def asked_places(recipe: Recipe) -> Iterator[CellPlace]:
    """Where every cell stands that a recipe asks for."""
    for row in recipe.approaches:
        for label in map(row.label_of, row.settings):
            for name in row.compositions or recipe.compositions:
                for backbone in recipe.backbones:
                    for seed in row.seeds or recipe.seeds:
                        yield label, str(recipe.parse(name)), backbone_label(backbone), seed


def predictions_file(cell: Path) -> Path:
    """Where the predictions of a cell lie."""
    return cell.parent.parent / "predictions" / f"{cell.stem}.jsonl"


def lock_of(path: Path) -> str:
    """The key of the lock that a grid holds while it makes a cell or sets one aside."""
    return fingerprint(str(path.resolve()))


def cell_at(path: Path) -> Cell | None:
    """The cell in a file; None if there is none, or what cannot be read as one, as after a power cut."""
    try:
        return read_cell(path)
    except CaloraError:
        return None


def set_aside(path: Path) -> None:
    """Move a cell and its predictions to `stale/` of their run."""
    for file in (predictions_file(path), path):
        if file.exists():
            target = path.parent.parent / "stale" / file.parent.name / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)
