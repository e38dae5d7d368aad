"""Answers labelled blind against a rubric, and how far the offline judge agrees with the labels.

    python benchmarks/labels.py draw results/demo-full-0 results/labels/summary+es [--count 100] [--approach LABEL ...]
    calora judge results/demo-full-0
    python benchmarks/labels.py compare results/labels/summary+es

`draw` takes as many answers of each approach (four or more), shuffles them, and writes answers.jsonl, which names no
approach, and key.jsonl, which does. Whoever labels reads rubric.md and answers.jsonl alone, and writes
labels-WHO.jsonl: a line an answer with its `number` and, for each question of the rubric, true or false. `compare`
prints Cohen's kappa between labellers, and between each of them and the judge.
"""

import argparse
import itertools
import json
import random
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from sklearn.metrics import cohen_kappa_score

from calora.bench.cells import read_cell, read_predictions
from calora.bench.judging import asked_examples, judged_cells
from calora.storage import numbered_lines, write_text


def draw(options: argparse.Namespace) -> None:
    """Write the answers to be labelled, and whose they are."""
    chance = random.Random(options.seed)
    cells = [
        (path, asked_examples(path, read_predictions(path), place, composition))
        for path, cell, place, composition in judged_cells(options.run)
        if (cell.approach in options.approach if options.approach else cell.costs.passes)
    ]
    share, more = divmod(options.count, len(cells))
    drawn = []
    for index, (path, examples) in enumerate(cells):
        rows = list(zip(read_predictions(path), examples, strict=True))
        for row, example in chance.sample(rows, share + (index < more)):
            drawn.append((str(path), row["id"], example.text, row["answer"]))
    chance.shuffle(drawn)
    lines(options.folder / "answers.jsonl", [{"number": n, "text": d[2], "answer": d[3]} for n, d in enumerate(drawn)])
    lines(options.folder / "key.jsonl", [{"number": n, "cell": d[0], "id": d[1]} for n, d in enumerate(drawn)])
    Console().print(f"{len(drawn)} answers of {len(cells)} approaches in {options.folder}")


def compare(options: argparse.Namespace) -> None:
    """Print the agreement of every two who labelled, the judge among them."""
    key = {row["number"]: row for row in read(options.folder / "key.jsonl")}
    scores = {
        path: {row["id"]: row["scores"] for row in read_predictions(Path(path))}
        for path in {row["cell"] for row in key.values()}
    }
    labels: dict[str, dict[int, dict[str, bool]]] = {
        path.stem.removeprefix("labels-"): {row.pop("number"): row for row in read(path)}
        for path in sorted(options.folder.glob("labels-*.jsonl"))
    }
    tasks = [
        name.removeprefix("judge_") for name in next(iter(next(iter(scores.values())).values())) if "judge_" in name
    ]
    questions = list(next(iter(next(iter(labels.values())).values())))
    labels["judge"], labels["retrieval"] = {}, {}
    for number, row in key.items():
        said = read_scores(scores, row)
        # What is asked beside the tasks is what their first one is about.
        labels["judge"][number] = {q: said[f"judge_{q if q in tasks else tasks[0]}"] == 100 for q in questions}
        labels["retrieval"][number] = dict.fromkeys(questions, said["retrieval"] == 100)  # a claim about the topic
    for name, given in labels.items():
        if given.keys() != key.keys() or any(one.keys() != set(questions) for one in given.values()):
            raise SystemExit(f"{name} did not label each answer for {', '.join(questions)}")
    table = Table(title=f"{options.folder.name}: {len(key)} answers of {len(scores)} approaches, Cohen's kappa (alike)")
    for head in ("between", *questions):
        table.add_column(head, justify="left" if head == "between" else "right")
    for one, other in itertools.combinations(labels, 2):
        table.add_row(f"{one}, {other}", *(kappa(labels[one], labels[other], question) for question in questions))
    table.add_section()
    for name, given in labels.items():
        table.add_row(f"yes by {name}, %", *(f"{rate(given, question):.0f}" for question in questions))
    Console().print(table)
    whose = Table(title="yes by each who labelled, %, by approach")
    for head in ("approach", "answers", *questions):
        whose.add_column(head, justify="left" if head == "approach" else "right")
    whose.caption = " / ".join(labels)
    for path in sorted(scores):
        numbers = [number for number, row in key.items() if row["cell"] == path]
        parts = [{n: given[n] for n in numbers} for given in labels.values()]
        shares = (" / ".join(f"{rate(part, question):.0f}" for part in parts) for question in questions)
        whose.add_row(read_cell(Path(path)).title, str(len(numbers)), *shares)
    Console().print(whose)


def read_scores(scores: dict[str, dict[str, dict[str, float]]], row: dict[str, Any]) -> dict[str, float]:
    """The scores of an answer, the judge's among them."""
    found = scores[row["cell"]][row["id"]]
    if "judge" not in found:
        raise SystemExit(f"{row['cell']} has no verdicts: run calora judge on its folder")
    return found


def kappa(one: dict[int, dict[str, bool]], other: dict[int, dict[str, bool]], question: str) -> str:
    """Cohen's kappa, which there is none of where one of the two always says the same; and how many are alike."""
    first, second = ([given[number][question] for number in sorted(given)] for given in (one, other))
    alike = sum(a == b for a, b in zip(first, second, strict=True))
    known = len(set(first)) > 1 and len(set(second)) > 1
    return f"{f'{cohen_kappa_score(first, second):.2f}' if known else '—'} ({alike})"


def rate(given: dict[int, dict[str, bool]], question: str) -> float:
    """Percent of the answers of which a question is true."""
    return 100 * sum(one[question] for one in given.values()) / len(given)


def read(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON Lines file."""
    return [json.loads(line) for _, line in numbered_lines(path)]


def lines(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write a JSON Lines file."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def main() -> None:
    """Do what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    drawing = commands.add_parser("draw")
    drawing.add_argument("run", type=Path)
    drawing.add_argument("folder", type=Path)
    drawing.add_argument("--count", type=int, default=100)
    drawing.add_argument("--seed", type=int, default=0)
    drawing.add_argument("--approach", action="append")
    drawing.set_defaults(do=draw)
    comparing = commands.add_parser("compare")
    comparing.add_argument("folder", type=Path)
    comparing.set_defaults(do=compare)
    options = parser.parse_args()
    options.do(options)


if __name__ == "__main__":
    main()
