import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calora.adapter import read_adapter, write_adapter
from calora.backbone import Backbone
from calora.calibration import read_calibration
from tests.conftest import random_adapter

PROGRAM = """
import json, sys
import torch
from pathlib import Path
from calora.adapter import read_adapter, write_adapter
from calora.backbone import Backbone
from calora.calibration import CalibrationCard, write_calibration
from calora.merging import Merge
from calora.processes import is_first, wait_for_all
from calora.corpus import Example
from calora.tasks import Composition
from calora.training import adapter
from calora.training.calibration import train_calibration
from calora.training.settings import TrainingSettings

adapter.DROPOUT = 0.0
folder, batch = Path(sys.argv[1]), int(sys.argv[2])
out = folder / sys.argv[3]
backbone = Backbone.load(str(folder / "backbone"), torch.float32)
composition = Composition.parse("summary")
rows = json.loads((folder / "rows.json").read_text())
examples = lambda epoch: [Example(*row, ("A", "B")) for row in rows]
judged = lambda epoch: examples(epoch)[:8]  # one whole batch of all processes
settings = TrainingSettings(learning_rate=0.01, epochs=6, batch_size=batch, patience=9)
trained = adapter.train_adapter(backbone, composition, examples, judged, settings, out / "adapter-work", rank=2)
merge = Merge()
card = CalibrationCard(
    kind="column-bias", rank=0, shared="kind", composition="summary", merge=merge, backbone=backbone.name,
    backbone_sha256=backbone.sha256, prompt=backbone.prompt(composition),
)
parents = [read_adapter(folder / name) for name in ("one", "two")]
learnt = train_calibration(backbone, merge(parents), card, examples, judged, settings, out / "calibration-work")
if is_first():
    write_adapter(trained, out / "adapter", "float32")
    write_calibration(learnt, out / "calibration")
wait_for_all()
"""


def losses(work: Path) -> list[float]:
    """Training and validation losses in order, of the last checkpoint's log."""
    last = max(work.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    log = json.loads((last / "trainer_state.json").read_text())["log_history"]
    return [entry[key] for entry in log for key in ("loss", "eval_loss") if key in entry]


@pytest.mark.slow
def test_two_processes_train_as_one_of_the_same_global_batch(
    llama: Backbone, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    """Float32, no dropout, gloo: DDP's losses and results are those of a process alone."""
    llama.model.save_pretrained(tmp_path / "backbone")
    llama.tokenizer.save_pretrained(tmp_path / "backbone")
    for seed, name in ((1, "one"), (2, "two")):
        write_adapter(random_adapter(llama, seed), tmp_path / name, "float32")
    examples = [
        (row["id"], "arts", row["dialogue"][0][1][:80], row["summary"]["en"][: 10 + 5 * place])
        for place, row in enumerate(rows[:12])  # of different lengths, so that a mean of means would be another loss
    ]
    (tmp_path / "rows.json").write_text(json.dumps(examples))
    (tmp_path / "program.py").write_text(PROGRAM)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "HF_HUB_OFFLINE": "1"}
    program = [str(tmp_path / "program.py"), str(tmp_path)]
    # What `accelerate launch` runs for several processes; on a CPU it asks for MPI instead.
    launch = "torch.distributed.run --standalone --nproc_per_node 2"
    alone = [sys.executable, *program, "4", "alone"]
    both = [sys.executable, "-m", *launch.split(), *program, "2", "both"]
    for command in (alone, both):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
        assert done.returncode == 0, done.stderr[-3000:]
    for kind in ("adapter", "calibration"):
        one, two = (losses(tmp_path / name / f"{kind}-work") for name in ("alone", "both"))
        assert len(one) == len(two) == 6 + 18 // 5  # each epoch's validation, and training every five steps
        np.testing.assert_allclose(two, one, atol=1e-4)
    first, second = (read_adapter(tmp_path / name / "adapter") for name in ("alone", "both"))
    for module, pair in first.modules.items():
        np.testing.assert_allclose(second.modules[module].update(), pair.update(), atol=1e-4)
    own, other = (read_calibration(tmp_path / name / "calibration").tensors for name in ("alone", "both"))
    for name, value in own.items():
        np.testing.assert_allclose(other[name], value, atol=1e-4)
