"""Two processes of one thread that train one adapter, against one process of one thread with the same global batch.

    python benchmarks/processes.py [--backbone smollm2-135m] [--updates 10] [--rounds 2]

Both train the summary adapter in float32 without dropout on the same examples in the same order, in turn; two processes
through DDP over gloo, each with half of the batch. Printed are the seconds of the trainings, checkpoint and validation
included and starting up left out, their ratio, and the largest difference of the training losses, which are means over
five updates. It wants two free cores.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

BATCH = 8


def train(folder: Path, backbone_name: str, batch: int, updates: int) -> None:
    """One process's part: what a launcher starts once or twice."""
    import torch

    from calora.backbone import Backbone
    from calora.corpus import load_everyday, make_examples, spread
    from calora.processes import is_first, wait_for_all
    from calora.tasks import Composition
    from calora.training import adapter
    from calora.training.settings import TrainingSettings

    torch.set_num_threads(1)
    adapter.DROPOUT = 0.0
    backbone, composition = Backbone.load(backbone_name, torch.float32), Composition.parse("summary")
    learnt = make_examples(spread(load_everyday("train"), BATCH * updates), composition, seed=0)
    judged = make_examples(spread(load_everyday("validation"), BATCH), composition, seed=0)
    settings = TrainingSettings(learning_rate=3e-4, epochs=1, batch_size=batch)
    begin = time.perf_counter()
    adapter.train_adapter(backbone, composition, lambda _: learnt, lambda _: judged, settings, folder / "work")
    seconds = time.perf_counter() - begin
    wait_for_all()
    if is_first():
        last = max((folder / "work").glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
        history = json.loads((last / "trainer_state.json").read_text())["log_history"]
        losses = [entry["loss"] for entry in history if "loss" in entry]
        (folder / "told.json").write_text(json.dumps({"seconds": seconds, "losses": losses}))


def main() -> None:
    """Train in turn and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="smollm2-135m")
    parser.add_argument("--updates", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--part", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, default=BATCH, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        train(options.part, options.backbone, options.batch, options.updates)
        return
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    # What `accelerate launch` runs for several processes; on a CPU it asks for MPI instead.
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    seconds: dict[int, list[float]] = {1: [], 2: []}
    losses: dict[int, list[float]] = {}
    for _ in range(options.rounds):
        for processes, start in ((1, []), (2, launch)):
            with tempfile.TemporaryDirectory() as temporary:
                own = ["--part", temporary, "--batch", str(BATCH // processes)]
                same = ["--backbone", options.backbone, "--updates", str(options.updates)]
                subprocess.run([sys.executable, *start, __file__, *own, *same], env=environment, check=True)
                told = json.loads((Path(temporary) / "told.json").read_text())
            seconds[processes].append(told["seconds"])
            losses[processes] = told["losses"]
    median = {processes: statistics.median(found) for processes, found in seconds.items()}
    table = Table(title=f"{options.backbone}, {options.updates} updates of {BATCH} examples, float32")
    for head in ("processes", "seconds", "throughput"):
        table.add_column(head, justify="right")
    for processes, value in median.items():
        table.add_row(str(processes), f"{value:.1f}", f"{median[1] / value:.2f}")
    furthest = max(abs(one - two) for one, two in zip(losses[1], losses[2], strict=True))
    table.caption = f"largest difference of a training loss {furthest:.6f}"
    Console().print(table)


if __name__ == "__main__":
    main()
