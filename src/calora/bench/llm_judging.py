"""Verdicts of a language model for the cells of a run, in files of their own beside the cells."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from calora.bench.cells import read_predictions
from calora.bench.judging import asked_examples, judged_cells
from calora.judges import Endpoint, LlmJudgement, judge_with_llm
from calora.judges.llm import Outcome, question
from calora.storage import fingerprint, read_card, write_text


class LlmVerdicts(BaseModel):
    """What a language model said of a cell's answers.

    Args:
        composition: Of the cell.
        approach: Of the cell.
        model: That judged.
        key: Fingerprint of the answers and of whom was asked.
        answers: Fingerprint of the answers alone.
        outcomes: Id of the dialogue to `yes`, `no`, `unparsable`, `failed` or `unjudged`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    composition: str
    approach: str
    model: str
    key: str
    answers: str
    outcomes: dict[str, Outcome]

    @property
    def counts(self) -> Counter[str]:
        """How many there are of each outcome."""
        return Counter(self.outcomes.values())

    @property
    def yes_percent(self) -> float | None:
        """As `LlmJudgement.yes_percent`."""
        return LlmJudgement(list(self.outcomes.values())).yes_percent


def read_llm_verdicts(cell: Path, rows: Sequence[Mapping[str, Any]]) -> LlmVerdicts | None:
    """What a language model said of the answers of a cell; None if it was not asked, or about other answers.

    Args:
        cell: Its file.
        rows: Its predictions.
    """
    path = _verdicts_file(cell)
    found = read_card(path, LlmVerdicts) if path.exists() else None
    return found if found is not None and found.answers == answers_key(rows) else None


def judge_run_with_llm(
    run: Path, endpoint: Endpoint, follow: Callable[[str], None] = lambda _: None
) -> list[LlmVerdicts]:
    """Ask a language model the paper's question about every answer of a run's compositions.

    What was said lies in `llm/` of the run, with a cache of every request: a second call asks only what is new, or what
    could not be judged before.

    Args:
        run: A run folder of `calora bench` or `calora demo`.
        endpoint: Whom to ask; its budget holds for each cell.
        follow: Told of each cell that is judged.

    Raises:
        CaloraError: The folder is no run, or the server cannot be reached or refuses.
    """
    verdicts = []
    for path, cell, place, composition in judged_cells(run):
        rows = read_predictions(path)
        target = _verdicts_file(path)
        examples = asked_examples(path, rows, place, composition)
        pairs = zip(rows, examples, strict=True)
        asked = [[row["id"], question(row["answer"], example, composition)] for row, example in pairs]
        key = fingerprint([endpoint.url, endpoint.model, endpoint.max_tokens, asked])
        found = read_card(target, LlmVerdicts) if target.exists() else None
        if found is None or found.key != key or found.counts["failed"] + found.counts["unjudged"]:
            follow(f"{cell.title} on {composition}")
            answers = [row["answer"] for row in rows]
            said = judge_with_llm(answers, examples, composition, endpoint, cache=run / "llm" / "cache")
            outcomes = dict(zip((row["id"] for row in rows), said.outcomes, strict=True))
            found = LlmVerdicts(
                composition=cell.composition,
                approach=cell.approach,
                model=endpoint.model,
                key=key,
                answers=answers_key(rows),
                outcomes=outcomes,
            )
            write_text(target, found.model_dump_json(indent=1) + "\n")
        verdicts.append(found)
    return verdicts


def _verdicts_file(cell: Path) -> Path:
    return cell.parent.parent / "llm" / cell.name


def answers_key(rows: Sequence[Mapping[str, Any]]) -> str:
    """Fingerprint of the answers of predictions."""
    return fingerprint(sorted([row["id"], row["answer"]] for row in rows))
