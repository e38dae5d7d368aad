"""One cell of the grid: every dialogue answered, scored and written with its costs and where it comes from."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from calora.approaches.one_pass import one_pass
from calora.approaches.registry import Plan
from calora.backbone import native_dtype
from calora.bench.case import Case
from calora.bench.cells import write_cell
from calora.bench.rows import Place
from calora.bench.timing import peak_memory, time_passes
from calora.console import counting
from calora.corpus import Split
from calora.generation import Answer, Pass, answer_all
from calora.versions import processor, versions

_TIMED_TEXTS, _TIMED_TOKENS, _TIMED_ROUNDS = 4, 24, 2  # more would be a quarter of a cell


def answer_cell(
    path: Path,
    place: Place,
    split: Split,
    plan: Plan,
    values: list[Any],
    made: dict[str, Any],
    *,
    timed: bool,
    texts: bool,
) -> None:
    """Answer every dialogue of a split, and write the cell.

    Args:
        path: Of the cell.
        place: Where it stands.
        split: Whose dialogues are answered.
        plan: Of the approach.
        values: What its parents gave.
        made: `settings`, `options`, `key`, and `adapters`: name to SHA-256.
        timed: Whether the passes are timed against the bare backbone, at equal tokens; with torch alone.
        texts: Whether predictions repeat the dialogue and the reference.
    """
    case = place.case
    examples = case.evaluation_examples(split)
    peak = times_bare = None
    if plan.given is None:
        passes = plan.passes(case.backbone, values)
        asked = [example.text for example in examples] if plan.texts is None else plan.texts(examples)
        with counting(place.row.title, len(asked) * len(passes)) as advance, _peak_memory(case, asked) as highest:
            answers = _answered(case, passes, asked, advance)
            peak = highest()
        if timed and case.recipe.engine == "torch":
            times_bare = _times_bare(case, passes, asked)
    else:
        passes, answers = (), [Answer(text, 0, False, 0.0) for text in plan.given(examples)]
    stored = plan.stored(values)
    trainings = [artefact.card.training for artefact in stored if artefact.card]
    head = {
        "composition": str(case.composition),
        "approach": place.row.label,
        "title": place.row.title,
        "backbone": case.backbone_name,
        "seed": case.seed,
        "options": made["options"],
        "key": made["key"],
        "provenance": made["settings"]
        | {
            "dtype": str(native_dtype()).rpartition(".")[2],
            "training": _trainings(case, values),
            "adapters": made["adapters"],
            **({"found": dict(found)} if (found := plan.found(values)) else {}),
            "made_with": versions() | {"processor": processor()},
        },
    }
    write_cell(
        path,
        examples,
        answers,
        case.composition.language,
        head,
        len(passes),
        sum(artefact.parameters for artefact in stored),
        updates=sum(int(training.get("steps", 0)) for training in trainings),
        seen=sum(_seen(training) for training in trainings),
        shared_by=plan.shared_by,
        times_bare=times_bare,
        peak_mebibytes=peak,
        texts=texts,
    )


def _answered(case: Case, passes: Sequence[Pass], texts: Sequence[str], follow: Callable[[int], None]) -> list[Answer]:
    """What the recipe's engine answers."""
    limit = case.recipe.max_tokens
    if case.recipe.engine == "torch":
        return answer_all(case.backbone, passes, texts, max_tokens=limit, follow=follow)
    return case.place.vllm(case.backbone_name).answer_all(passes, texts, max_tokens=limit, follow=follow)


@contextmanager
def _peak_memory(case: Case, texts: Sequence[str]) -> Iterator[Callable[[], float | None]]:
    """As `peak_memory`; what a backbone reads from its file when it first answers is none of an approach's."""
    if case.recipe.engine != "torch":  # another one takes its memory before, and by its own rules
        yield lambda: None
        return
    answer_all(case.backbone, one_pass(case.backbone, case.composition, None), texts[:1], max_tokens=1)
    with peak_memory() as highest:
        yield highest


def _times_bare(case: Case, passes: Sequence[Pass], texts: Sequence[str]) -> float:
    """Time of an approach's passes as a multiple of one pass of the bare backbone, at equal tokens and in turn."""
    bare = one_pass(case.backbone, case.composition, None)
    if list(passes) == bare:
        return 1.0
    return time_passes(
        case.backbone,
        passes,
        bare,
        texts[:_TIMED_TEXTS],
        tokens=_TIMED_TOKENS,
        rounds=_TIMED_ROUNDS,
    ).ratio


def _trainings(case: Case, values: Sequence[Any]) -> list[dict[str, Any]]:
    """How what was learnt for just this composition was trained, by name."""
    found = []
    for value in values:
        card = getattr(value, "card", None)
        name = getattr(card, "composition", None) or getattr(card, "name", None)
        if card is not None and name == str(case.composition):
            found.append({"name": name, **card.training})
    return found


def _seen(training: Mapping[str, Any]) -> int:
    """Examples seen in training: steps times the batch, the last batch of an epoch taken for full."""
    return int(training.get("steps", 0)) * int(training.get("settings", {}).get("batch_size", 0))
