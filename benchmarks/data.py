"""Memory and speed of composing a large source: it is read, taught, filtered and written a batch at a time.

    python benchmarks/data.py [--records 100000]

A made-up file of so many dialogues, in JSON Lines, CSV and Parquet, with a teacher that costs almost none (`sed`), so
that what is measured is calora, all its filters on. A tenth and the whole of each file, each in a process of its own,
whose peak of memory is told.
"""

import argparse
import json
import random
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from rich.console import Console
from rich.table import Table

from calora.corpus.compose_recipe import ComposeRecipe
from calora.corpus.composing import compose

WORDS = Path(__file__).parents[1] / "src/calora/data/everyday/arts.jsonl"


def write_source(path: Path, records: int) -> None:
    """Dialogues of random words, none like another."""
    words = WORDS.read_text(encoding="utf-8").split()
    words = [word for word in words if word.isalpha()][:5000]
    draw = random.Random(0)
    with path.open("w", encoding="utf-8") as lines:
        for number in range(records):
            turns = [f"{who}: {' '.join(draw.choices(words, k=20))}" for who in "ABAB"]
            row = {"id": f"r{number}", "talk": "\n".join(turns), "short": " ".join(draw.choices(words, k=25))}
            lines.write(json.dumps(row) + "\n")


def composed(path: Path, limit: int, out: Path) -> tuple[float, float, int]:
    """(seconds, peak MiB of the process, records kept) of composing so many records."""
    recipe = ComposeRecipe.model_validate(
        {
            "files": {"train": path},
            "columns": {"id": "id", "text": "talk", "summary": "short"},
            "limit": limit,
            "batch": 512,
            "targets": {"es": {"by": {"teacher": "command", "command": "sed s/^/Well,_/"}, "language": "en"}},
        }
    )
    begin = time.monotonic()
    counts = compose(recipe, out)
    seconds = time.monotonic() - begin
    assert counts.read["train"] == limit
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, counts.kept["train"]


def main() -> None:
    """Compose a tenth and then all, of each kind of file, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=100_000)
    options = parser.parse_args()
    table = Table(title=f"{options.records:,} records, a teacher that costs nothing")
    for head in ("file", "records", "kept", "seconds", "records/s", "peak MiB"):
        table.add_column(head, justify="right" if head != "file" else "left")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        source = folder / "source.jsonl"
        write_source(source, options.records)
        import datasets

        whole = datasets.Dataset.from_json(str(source), cache_dir=str(folder))
        whole.to_parquet(folder / "source.parquet")
        whole.to_csv(folder / "source.csv")
        for kind in ("jsonl", "csv", "parquet"):
            for limit in (options.records // 10, options.records):
                with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
                    call = alone.submit(composed, folder / f"source.{kind}", limit, folder / f"{kind}-{limit}")
                    seconds, peak, kept = call.result()
                table.add_row(
                    kind, f"{limit:,}", f"{kept:,}", f"{seconds:.1f}", f"{limit / seconds:,.0f}", f"{peak:.0f}"
                )
    Console().print(table)


if __name__ == "__main__":
    main()
