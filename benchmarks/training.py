"""Tokens per second of training, side by side in one process.

    python benchmarks/training.py [--steps 6] [--rounds 3] [--backbone gemma3-270m]

Six contestants train on the same batches through transformers' Trainer, in turn, several rounds:

    stock            peft's LoRA (rank 32), the model's own forward pass and loss: a joint expert as anyone trains it
    completion head  the same, with logits at the completion's positions only
    adapter          calora's adapter training
    factors          calora's calibration (column bias) on the paper's start, the merge kept beside the weights
    product          the same on the exact sum of the updates, which has twice the rank
    no merge         a column bias alone, to tell what keeping the merge beside the weights costs

Last, the share of what the machine's own matrix products allow, and what keeping the merge beside the weights costs.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from calora.adapter import Adapter, Factors
from calora.attach import hooked, low_rank
from calora.backbone import Backbone
from calora.calibration import CalibrationCard, fresh_tensors
from calora.corpus import load_everyday, make_examples
from calora.merging import Merge, Start
from calora.tasks import Composition
from calora.training.adapter import injected
from calora.training.calibration import calibrated_updates
from calora.training.data import EncodedExamples, collate
from calora.training.learner import Learner

COMPOSITION = Composition.parse("summary+es")
BATCH = 8


class Stopwatch(TrainerCallback):
    """Times the steps behind the first, which warms up."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        now = time.perf_counter()
        if state.global_step == 1:
            self.begin = now
        self.end = now


class CompletionHead(nn.Module):
    """The improved peer: peft's model, with plain cross-entropy over the completion's positions alone."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        decoder = self.model.get_decoder()
        hidden = decoder(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).last_hidden_state
        wanted = labels[:, 1:] != -100
        logits = self.model.get_output_embeddings()(hidden[:, :-1][wanted])
        return {"loss": nn.functional.cross_entropy(logits.float(), labels[:, 1:][wanted])}


def seconds_of(model: nn.Module, items: list[dict[str, list[int]]], pad: int, steps: int) -> float:
    """Seconds of `steps` training steps, behind one to warm up."""
    watch = Stopwatch()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=steps + 1,
            per_device_train_batch_size=BATCH,
            train_sampling_strategy="sequential",
            learning_rate=1e-4,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
            use_cpu=not torch.cuda.is_available(),
            dataloader_pin_memory=False,
        )
        trainer = Trainer(
            model=model,
            args=arguments,
            train_dataset=items,  # type: ignore[arg-type]
            data_collator=partial(collate, pad),
            callbacks=[watch],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return watch.end - watch.begin


@contextmanager
def peer(backbone: Backbone, completion: bool) -> Iterator[nn.Module]:
    """peft's LoRA as it comes: its own dtypes, torch's fused attention."""
    from peft import LoraConfig, get_peft_model

    model: Any = backbone.model
    model.set_attn_implementation("sdpa")
    config = LoraConfig(r=32, lora_alpha=16, lora_dropout=0.05, target_modules=list(backbone.targets))
    wrapped = get_peft_model(model, config)
    try:
        yield CompletionHead(wrapped) if completion else wrapped
    finally:
        wrapped.unload()
        if hasattr(model, "peft_config"):
            del model.peft_config
        model.requires_grad_(False)
        model.eval()
        model.set_attn_implementation("eager" if not torch.cuda.is_available() else "sdpa")


@contextmanager
def adapter(backbone: Backbone) -> Iterator[nn.Module]:
    """calora's adapter training."""
    with injected(backbone, rank=32, alpha=16) as learner:
        yield learner


@contextmanager
def calibration(backbone: Backbone, start: Start) -> Iterator[nn.Module]:
    """calora's calibration training, a column bias."""
    random = np.random.default_rng(0)
    parents = [
        Adapter(
            {
                name: Factors(
                    (random.normal(size=(32, inside)) / inside**0.5).astype(np.float32),
                    (1e-3 * random.normal(size=(out, 32))).astype(np.float32),
                )
                for name, (out, inside) in backbone.targets.items()
            }
        )
        for _ in range(2)
    ]
    merge = Merge(start=start)
    merged = merge(parents)
    card = CalibrationCard(
        kind="column-bias",
        rank=4,
        shared="kind",
        composition=str(COMPOSITION),
        merge=merge,
        backbone=backbone.name,
        backbone_sha256=backbone.sha256,
        prompt=backbone.prompt(COMPOSITION),
    )
    device = backbone.model.device
    parameters = {
        name: nn.Parameter(torch.from_numpy(value).to(device)) for name, value in fresh_tensors(card, merged).items()
    }
    with hooked(backbone, calibrated_updates(backbone, merged, card, parameters)):
        yield Learner(backbone, parameters)


@contextmanager
def bare(backbone: Backbone) -> Iterator[nn.Module]:
    """A calibration without a merge beside the weights: what remains is p times the sum of the input."""
    parameters = {
        name: nn.Parameter(torch.zeros(out, device=backbone.model.device))
        for name, out in {name.rpartition(".")[2]: shape[0] for name, shape in backbone.targets.items()}.items()
    }

    def update(kind: str, inside: int) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
        ones = torch.ones(1, inside, device=backbone.model.device, dtype=backbone.model.dtype)
        return lambda x, out: low_rank(x, out, ones, parameters[kind].to(x.dtype).unsqueeze(1))

    with hooked(
        backbone, {name: update(name.rpartition(".")[2], shape[1]) for name, shape in backbone.targets.items()}
    ):
        yield Learner(backbone, parameters)


def matrix_speed(backbone: Backbone, rows: int) -> float:
    """Floating-point operations per second of the largest kind of product in the model, in its own precision."""
    out, inside = max(backbone.targets.values(), key=lambda shape: shape[0] * shape[1])
    model = backbone.model
    a = torch.randn(rows, inside, device=model.device).to(model.dtype)
    b = torch.randn(inside, out, device=model.device).to(model.dtype)
    a @ b
    begin = time.perf_counter()
    for _ in range(20):
        a @ b
    return 20 * 2 * rows * inside * out / (time.perf_counter() - begin)


def step_operations(backbone: Backbone, tokens: int, answers: int) -> float:
    """Operations that calibrating cannot do without: forward, and backward to the inputs, of layers and head."""
    body = sum(out * inside for out, inside in backbone.targets.values())
    head: Any = backbone.model.get_output_embeddings()
    return 4.0 * (tokens * body + answers * head.weight.numel())


def main() -> None:
    """Run the contest and print the table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--steps", type=int, default=6)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--backbone", default="gemma3-270m")
    given = options.parse_args()

    backbone = Backbone.load(given.backbone)
    examples = make_examples(load_everyday("train"), COMPOSITION, seed=0)[: BATCH * (given.steps + 1)]
    data = EncodedExamples(backbone, backbone.prompt(COMPOSITION), lambda epoch: examples)
    items = sorted((data[index] for index in range(len(data))), key=lambda item: len(item["prompt"]))
    timed = items[BATCH:]
    tokens = sum(len(item["prompt"]) + len(item["answer"]) for item in timed)
    answers = sum(len(item["answer"]) for item in timed)

    contestants: dict[str, Callable[[], Any]] = {
        "stock": lambda: peer(backbone, completion=False),
        "completion head": lambda: peer(backbone, completion=True),
        "adapter": lambda: adapter(backbone),
        "factors": lambda: calibration(backbone, "factors"),
        "product": lambda: calibration(backbone, "product"),
        "no merge": lambda: bare(backbone),
    }
    times: dict[str, list[float]] = {name: [] for name in contestants}
    bounds = []
    console = Console()
    for turn in range(given.rounds):
        bounds.append(step_operations(backbone, tokens, answers) / matrix_speed(backbone, BATCH * 180))
        for name, enter in contestants.items():
            with enter() as model:
                times[name].append(seconds_of(model, items, int(backbone.tokenizer.pad_token_id), given.steps))
            console.print(f"round {turn + 1}  {name:<16} {tokens / times[name][-1]:6.0f} tokens/s", highlight=False)

    def ratio(name: str, other: str) -> str:
        """How many times as fast as the other, turn by turn."""
        return f"{statistics.median(b / a for a, b in zip(times[name], times[other], strict=True)):.2f}"

    table = Table(title=f"{backbone.name}, {given.steps} steps of {BATCH}, median of {given.rounds} rounds")
    table.add_column("contestant")
    for head in ("tokens/s", "times stock", "times completion head", "share of bound"):
        table.add_column(head, justify="right")
    for name, seconds in times.items():
        share = statistics.median(bound / one for bound, one in zip(bounds, seconds, strict=True))
        speed = tokens / statistics.median(seconds)
        table.add_row(name, f"{speed:.0f}", ratio(name, "stock"), ratio(name, "completion head"), f"{share:.0%}")
    console.print(table)
    console.print(
        "keeping the merge beside the weights: a step takes "
        f"{ratio('no merge', 'factors')} times as long with factors, {ratio('no merge', 'product')} times with product",
        highlight=False,
    )


if __name__ == "__main__":
    main()
