"""64 clients at once on a gateway, each asking for any of 8 compositions whose answers cannot be mistaken.

    python benchmarks/crowd.py [--backbone smollm2-135m] [--clients 64] [--seconds 300] [--slots 4]

Each composition's calibration is a canary: it has learnt to answer every dialogue with a word of its own. `calora
serve` runs in a process of its own; a client takes the next composition and the next dialogue, checks the word, and
after a 429 waits as long as it is told. At the end: answers of the right composition, of a wrong one, other answers,
refusals by status, and the server's memory over time. The exit code is 1 if an answer came from a wrong composition, a
request ended otherwise than the documentation says, or memory grew by more than 5 %.
"""

import argparse
import itertools
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx2
import psutil
from device import COMPOSITIONS, make_parts, prompt_of
from rich.console import Console
from rich.progress import track
from rich.table import Table

from calora.adapter import adapter_sha256, read_adapter
from calora.backbone import Backbone
from calora.backbone_files import backbone_sha256
from calora.calibration import CalibrationCard, write_calibration
from calora.corpus import Example, load_everyday, make_examples
from calora.export.layout import read_layout
from calora.merging import Merge
from calora.serving import write_bundle
from calora.tasks import Composition
from calora.training.calibration import train_calibration
from calora.training.settings import TrainingSettings

WORDS = ("apple", "river", "candle", "tiger", "violin", "copper", "garden", "rocket")
STRENGTH = 0.1  # the parents are noise
DIALOGUES, VALIDATION, EPOCHS, RATE, TURNS = 96, 8, 3, 5e-3, 3


def dialogues(split: str) -> list[Example]:
    """Examples whose text is how a dialogue begins: short, so that many are asked for."""
    whole = make_examples(load_everyday(split), Composition.parse("summary"), seed=0)  # type: ignore[arg-type]
    return [replace(example, text="\n".join(example.text.split("\n")[:TURNS])) for example in whole]


def canaries(options: argparse.Namespace, place: Path) -> tuple[Path, dict[str, str]]:
    """A bundle of noise adapters and of calibrations that say a word each; composition to word."""
    layout = read_layout(options.backbone)
    parents = make_parts(layout, options.backbone, place / "adapters")
    backbone = Backbone.load(options.backbone)
    words = dict(zip(random.Random(0).sample(COMPOSITIONS[:14], len(WORDS)), WORDS, strict=True))
    folders = []
    for composition, word in track(words.items(), "teaching canaries", console=Console(stderr=True)):
        names = composition.split("+")
        merge = Merge(start="product", strengths=(STRENGTH,) * len(names))
        card = CalibrationCard(
            kind="low-rank",
            rank=4,
            shared="kind",
            composition=composition,
            merge=merge,
            parents={name: adapter_sha256(parents[name]) for name in names},
            backbone=options.backbone,
            backbone_sha256=backbone_sha256(options.backbone),
            prompt=prompt_of(composition),
        )

        def says(split: str, count: int, word: str = word) -> list[Example]:
            return [replace(example, target=word) for example in dialogues(split)[:count]]

        learnt = train_calibration(
            backbone,
            merge([read_adapter(parents[name]) for name in names]),
            card,
            lambda epoch, says=says: says("train", DIALOGUES),  # type: ignore[misc]
            lambda epoch, says=says: says("validation", VALIDATION),  # type: ignore[misc]
            TrainingSettings(learning_rate=RATE, epochs=EPOCHS),
            place / "work" / composition,
        )
        write_calibration(learnt, place / composition)
        folders.append(place / composition)
    write_bundle(place / "bundle", options.backbone, list(parents.values()), folders)
    return place / "bundle", words


@contextmanager
def served(bundle: Path, options: argparse.Namespace) -> Iterator[tuple[str, psutil.Process]]:
    """The address of `calora serve` and its process."""
    command = [sys.executable, "-c", "from calora.cli import main; main()", "serve", str(bundle), "--port", "0"]
    command += ["--slots", str(options.slots), "--threads", str(options.threads)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if found := re.search(r"on (http://\S+)/v1;", line):
                break
        else:
            raise SystemExit("the gateway did not start")
        threading.Thread(target=process.stderr.read, daemon=True).start()
        yield found[1], psutil.Process(process.pid)
        process.terminate()


def ask_on(
    address: str, words: dict[str, str], jobs: Iterator[tuple[str, str]], lock: threading.Lock, until: float
) -> Counter[str]:
    """One client: requests one after the other; what came of them."""
    found: Counter[str] = Counter()
    with httpx2.Client(base_url=address, timeout=300.0) as client:
        while time.monotonic() < until:
            with lock:
                composition, text = next(jobs)
            body = {"model": composition, "messages": [{"role": "user", "content": text}], "max_tokens": 4}
            response = client.post("/v1/chat/completions", json=body)
            if response.status_code == 200:
                said = response.json()["choices"][0]["message"]["content"].strip().lower()
                others = [word for word in words.values() if word in said and word != words[composition]]
                found["wrong" if others else "right" if words[composition] in said else "no canary"] += 1
            else:
                found[f"status {response.status_code}"] += 1
                time.sleep(float(response.headers.get("retry-after", 1)))
    return found


def main() -> None:
    """Run the crowd and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="smollm2-135m")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory() as temporary:
        bundle, words = canaries(options, Path(temporary))
        texts = [example.text for example in dialogues("test")]
        # Coprime lengths: every composition meets every dialogue.
        jobs = zip(itertools.cycle(words), itertools.cycle(texts[:107]), strict=False)
        lock, found, memory = threading.Lock(), Counter[str](), list[float]()
        with served(bundle, options) as (address, process):
            until = time.monotonic() + options.seconds

            def client() -> None:
                one = ask_on(address, words, jobs, lock, until)
                with lock:
                    found.update(one)

            threads = [threading.Thread(target=client) for _ in range(options.clients)]
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                memory.append(process.memory_full_info().uss / 2**20)
                time.sleep(min(5, options.seconds / 20))
            for thread in threads:
                thread.join()
    # Buffers are taken when first needed; the first fifth is left out.
    settled = memory[len(memory) // 5 :]
    half = len(settled) // 2
    growth = max(settled[half:]) / max(settled[:half]) - 1
    table = Table(title=f"{options.clients} clients, 8 compositions, {options.seconds:.0f} s on {options.backbone}")
    table.add_column("what came")
    table.add_column("requests", justify="right")
    for what in ("right", "wrong", "no canary", *sorted(set(found) - {"right", "wrong", "no canary"})):
        table.add_row(what, f"{found[what]:,}")
    table.caption = (
        f"memory of the server alone: {settled[0]:.0f} MiB, at most {max(settled[:half]):.0f} in the first half "
        f"and {max(settled[half:]):.0f} in the second"
    )
    console.print(table)
    if found["wrong"] or found["no canary"] or set(found) - {"right", "status 429"} or growth > 0.05:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
