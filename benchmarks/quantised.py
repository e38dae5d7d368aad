"""What a bundle's answers lose on the quantised backbone in llama.cpp, against the form it was trained in.

    python benchmarks/quantised.py [BUNDLE] [--dialogues 108] [--threads 1]

BUNDLE is the one that comes with calora if left out. For each of its compositions and adapters, on the same test
dialogues: the scores of torch's answers on the backbone's weights unpacked to bfloat16 (or float32, where that is
faster), and of llama.cpp's on the file as it is, which also rounds what goes into each product. And how far apart their
distributions are: the mean Kullback-Leibler divergence over the 200 positions of a text, of llama.cpp's from torch's,
over its 40 likeliest tokens and the rest taken together, which is a lower bound; and at how many positions the
likeliest token is the same.
"""

import argparse
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from calora.adapter import Adapter
from calora.backbone import Backbone
from calora.bench.case import EVALUATION_SEED
from calora.calibration import fold
from calora.corpus import load_everyday, make_examples
from calora.export.probes import Probe, reference_logprobs
from calora.export.runtimes import POSITIONS, llama_probe
from calora.generation import Pass, answer_all
from calora.metrics import score_answers
from calora.serving import Bundle, Device, open_bundle, ready_made
from calora.serving.bundle import check_composition
from calora.serving.llama import LlamaServer
from calora.serving.parts import parts_of
from calora.storage import Array
from calora.tasks import Composition

MEASURES = ("retrieval", "masked_rougeL", "in_language")


def adapter_of(bundle: Bundle, name: str) -> Adapter:
    """What torch puts beside the weights for a composition or a task."""
    entry = bundle.card.compositions.get(name)
    if entry is None:
        return bundle.adapter(name)
    return fold(entry.merge([bundle.adapter(parent) for parent in entry.parents]), bundle.calibration(name))


def divergence(probe: Probe, logprobs: Array) -> float:
    """Mean divergence of a runtime from the reference over its likeliest tokens and the rest, in nats.

    Args:
        probe: Of the runtime.
        logprobs: [positions, vocabulary] of the reference.
    """
    total = 0.0
    for top, row in zip(probe.tops, logprobs, strict=True):
        p = np.exp(row[list(top)].astype(np.float64))
        q = np.exp(np.array(list(top.values())))
        p, q = (np.append(one, max(1e-12, 1 - one.sum())) for one in (p, q))
        total += float(np.sum(p * np.log(p / q)))
    return total / len(probe.tops)


def main() -> None:
    """Ask both, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, nargs="?")
    parser.add_argument("--dialogues", type=int, default=108)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    console = Console(width=140)
    folder = options.bundle or ready_made()
    bundle = open_bundle(folder)
    backbone = Backbone.load(str(bundle.model))
    records = load_everyday("test")
    records = records[:: max(1, len(records) // options.dialogues)][: options.dialogues]
    kind = str(backbone.model.dtype).rpartition(".")[2]
    table = Table(
        title=f"{bundle.card.backbone.name}: torch in {kind} / llama.cpp on the file, {len(records)} test dialogues"
    )
    for head in ("", "retrieval %", "masked ROUGE-L", "language %", "same answer %", "KL, nats", "same likeliest"):
        table.add_column(head, justify="right" if head else "left")
    probe_text = "\n\n".join(e.text for e in make_examples(records, Composition.parse("summary"), seed=EVALUATION_SEED))
    with Device.open(folder, threads=options.threads) as device:
        for name in track(device.names, "asking", console=Console(stderr=True)):
            composition, adapter = Composition.parse(name), adapter_of(bundle, name)
            examples = make_examples(records, composition, seed=EVALUATION_SEED)
            prompt = device.steps(name)[0].prompt
            texts = [example.text for example in examples]
            trained = [a.text for a in answer_all(backbone, [Pass(adapter, prompt)], texts)]
            there = [device.run(name, text).text for text in texts]
            scores = [
                score_answers(
                    answers,
                    [e.target for e in examples],
                    [e.names for e in examples],
                    [e.domain for e in examples],
                    composition.language,
                ).means
                for answers in (trained, there)
            ]
            parts = parts_of(bundle, check_composition(bundle, name)) if name in bundle.card.compositions else None
            files = parts.files if parts else {name: bundle.adapter_file(name)}
            with LlamaServer(bundle.model, files, context=POSITIONS + 8, threads=options.threads) as server:
                ids = server.tokens(probe_text)[: POSITIONS + 1]
                probe = llama_probe(server, parts.scales if parts else {name: 1.0}, ids, 1)
            logprobs = reference_logprobs(backbone, adapter, ids, 1)
            same = sum(a == b for a, b in zip(trained, there, strict=True)) / len(texts)
            table.add_row(
                name,
                *(f"{scores[0][measure]:.1f} / {scores[1][measure]:.1f}" for measure in MEASURES),
                f"{100 * same:.0f}",
                f"{divergence(probe, logprobs):.4f}",
                f"{probe.agreement(logprobs)} of {len(probe.tops)}",
            )
    console.print(table)


if __name__ == "__main__":
    main()
