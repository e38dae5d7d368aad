"""Memory and speed of composing a large source: it is read, taught, filtered and written a batch at a time.

    python benchmarks/data.py [--records 100000]

A made-up file of so many dialogues, in JSON Lines and in Parquet, with a teacher that costs next to nothing (`cat`), so
that what is measured is calora. The peak of the process is taken after a tenth and at the end.
"""

import argparse
import json
import random
import resource
import tempfile
import time
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


def peak() -> float:
    """MiB that the process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Compose a tenth and then all, of each kind of file, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=100_000)
    options = parser.parse_args()
    table = Table(title=f"{options.records:,} records, a teacher that costs nothing")
    for head in ("file", "records", "seconds", "records/s", "peak MiB"):
        table.add_column(head, justify="right" if head != "file" else "left")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        source = folder / "source.jsonl"
        write_source(source, options.records)
        import datasets

        datasets.Dataset.from_json(str(source), cache_dir=str(folder)).to_parquet(folder / "source.parquet")
        for kind in ("jsonl", "parquet"):
            for limit in (options.records // 10, options.records):
                recipe = ComposeRecipe.model_validate(
                    {
                        "files": {"train": folder / f"source.{kind}"},
                        "columns": {"id": "id", "text": "talk", "summary": "short"},
                        "limit": limit,
                        "batch": 512,
                        "targets": {"es": {"by": {"teacher": "command", "command": "cat"}, "language": "en"}},
                        "filters": {"copies": False, "repeats": None, "language": False},
                    }
                )
                begin = time.monotonic()
                counts = compose(recipe, folder / f"{kind}-{limit}")
                seconds = time.monotonic() - begin
                assert counts.kept["train"] == limit
                table.add_row(kind, f"{limit:,}", f"{seconds:.1f}", f"{limit / seconds:,.0f}", f"{peak():.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
