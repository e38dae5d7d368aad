"""What calibrating on the packed weights gains over calibrating on the full ones and packing them afterwards.

    python benchmarks/calibrate_quantised.py ADAPTER ADAPTER --work runs/calibrate-quantised
        [--backbone gemma3-270m] [--packing q4_0] [--train 160] [--dialogues 108] [--epochs 2] [--rate 1e-3]

The two adapters, trained on the backbone's unpacked weights (which stand for full ones here: no wider file is at hand),
are merged by product at strength 1. A column bias and a rank-4 update of the merge are trained twice, on the same
composed examples in the same order: on the unpacked weights, and on the weights of the file with its adapted matrices
packed again in `--packing`, unpacked. All are then asked in llama.cpp on that file. Beside the scores stands the mean
loss of the references on the packed weights in torch, which sees smaller differences than retrieval does.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from calora.adapter import Adapter, Factors, adapter_sha256, read_adapter
from calora.backbone import Backbone
from calora.backbone_files import backbone_sha256
from calora.bench.case import EVALUATION_SEED
from calora.bench.cells import backbone_label
from calora.calibration import Calibration, CalibrationCard, Kind, fold, read_calibration, write_calibration
from calora.corpus import load_everyday, make_examples, spread
from calora.export import export_adapter
from calora.merging import Merge
from calora.metrics import score_answers
from calora.metrics.statistics import paired_difference
from calora.serving import Device, write_bundle
from calora.storage import fingerprint
from calora.tasks import Composition
from calora.training.calibration import train_calibration
from calora.training.data import EncodedExamples
from calora.training.mean_loss import mean_loss
from calora.training.settings import TrainingSettings

MERGE = Merge(start="product", strengths=(1.0, 1.0))
KINDS: tuple[Kind, ...] = ("column-bias", "low-rank")


def packed(backbone: str, packing: str, place: Path) -> Path:
    """The backbone's file with its adapted matrices in another type."""
    path = place / f"{backbone_label(backbone)}-{backbone_sha256(backbone)[:8]}-{packing}.gguf"
    if not path.exists():
        loaded = Backbone.load(backbone)
        zero = {
            name: Factors(np.zeros((1, inside), np.float32), np.zeros((out, 1), np.float32))
            for name, (out, inside) in loaded.targets.items()
        }
        export_adapter(Adapter(zero), "merged-gguf", path, backbone, dtype=packing)
    return path


def place_of(kind: str, weights: str, options: Any) -> str:
    """A name that changes with whatever a calibration hangs on."""
    hangs_on = [list(map(adapter_sha256, options.adapters)), options.backbone, options.packing]
    return f"{kind}-{weights}-{fingerprint([*hangs_on, options.train, options.epochs, options.rate])}"


def learn(
    backbone: Backbone, folders: list[Path], composition: Composition, kind: Kind, options: Any, place: Path
) -> Calibration:
    """A calibration trained on a backbone's weights, or the one that is there."""
    if place.exists():
        return read_calibration(place)
    adapters = [read_adapter(folder) for folder in folders]
    names = [task.name for task in composition.tasks]
    card = CalibrationCard(
        kind=kind,
        rank=4 if kind == "low-rank" else 0,
        shared="kind",
        composition=str(composition),
        merge=MERGE,
        parents=dict(zip(names, map(adapter_sha256, folders), strict=True)),
        backbone=backbone.name,
        backbone_sha256=backbone.sha256,
        prompt=backbone.prompt(composition),
    )
    records = spread(load_everyday("train"), options.train)
    validation = spread(load_everyday("validation"), 36)
    made = train_calibration(
        backbone,
        MERGE(adapters),
        card,
        lambda epoch: make_examples(records, composition, seed=0, epoch=epoch),
        lambda epoch: make_examples(validation, composition, seed=0, epoch=epoch),
        TrainingSettings(learning_rate=options.rate, epochs=options.epochs),
        place.with_name(f"{place.name}-work"),
    )
    write_calibration(made, place)
    return made


def main() -> None:
    """Train four calibrations, ask all, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("adapters", type=Path, nargs=2)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--backbone", default="gemma3-270m")
    parser.add_argument("--packing", default="q4_0")
    parser.add_argument("--train", type=int, default=160)
    parser.add_argument("--dialogues", type=int, default=108)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rate", type=float, default=1e-3)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    parents = [read_adapter(folder) for folder in options.adapters]
    composition = Composition.parse("+".join(parent.card.name for parent in parents if parent.card))
    file = packed(options.backbone, options.packing, options.work)
    places = {"full": options.backbone, options.packing: str(file)}
    learnt = {}
    for weights, name in places.items():
        backbone = Backbone.load(name)
        for kind in KINDS:
            learnt[kind, weights] = learn(
                backbone, options.adapters, composition, kind, options, options.work / place_of(kind, weights, options)
            )
    examples = make_examples(spread(load_everyday("test"), options.dialogues), composition, seed=EVALUATION_SEED)
    coarse = Backbone.load(str(file))
    data = EncodedExamples(coarse, coarse.prompt(composition), lambda epoch: examples)
    table = Table(title=f"{composition}, asked on {options.packing} in llama.cpp, {len(examples)} test dialogues")
    for head in ("calibration", "trained on", "retrieval %", "masked ROUGE-L", "gain", "loss in torch"):
        table.add_column(head, justify="left" if head in ("calibration", "trained on") else "right")
    rouge: dict[tuple[str, str], list[float]] = {}
    for (kind, weights), calibration in learnt.items():
        place = place_of(kind, weights, options)
        bundle = options.work / f"bundle-{place}"
        write_bundle(bundle, str(file), options.adapters, [options.work / place])
        with Device.open(bundle, backbone=file) as device:
            answers = [device.run(str(composition), example.text).text for example in examples]
        scores = score_answers(
            answers,
            [e.target for e in examples],
            [e.names for e in examples],
            [e.domain for e in examples],
            composition.language,
        )
        rouge[kind, weights] = [float(row["masked_rougeL"]) for row in scores.rows]
        gain = "" if weights == "full" else _difference(rouge[kind, weights], rouge[kind, "full"])
        shipped = fold(MERGE(parents), calibration)
        table.add_row(
            kind,
            weights,
            f"{scores.means['retrieval']:.1f}",
            f"{scores.means['masked_rougeL']:.1f}",
            gain,
            f"{mean_loss(coarse, shipped, data):.4f}",
        )
    table.add_row("none", "", "", "", "", f"{mean_loss(coarse, MERGE(parents), data):.4f}")
    Console(width=140).print(table)


def _difference(one: list[float], other: list[float]) -> str:
    found = paired_difference(one, other)
    return f"{found.mean:+.2f} ({found.low:+.2f} to {found.high:+.2f})"


if __name__ == "__main__":
    main()
