"""What merging costs: against PEFT in the same process, for every method on two adapters, and in memory.

    OMP_NUM_THREADS=1 python benchmarks/merging.py [--rounds 3]

1. One module of hidden size 2048, two adapters of rank 32: PEFT's `add_weighted_adapter` and ours in turn, the same
   result asked of both (rank 32), medians; and how much further from the uncut merge ours is than the nearest of that
   rank.
2. Every method on two whole adapters of rank 32 with the shapes of Gemma 3 270M and of Llama 3.2 1B (those of full
   rank on one layer, cut to rank 32): seconds, and the most memory held at a time beyond the parents and the result, as
   a multiple of the largest module's full update.

PEFT's adapter is made on a model that is there already; opening it, which ours does not need, is not counted.
"""

import argparse
import statistics
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from calora.adapter import Adapter, AdapterCard, Factors
from calora.merging import DenseUpdate, find_merge_method, merge, merge_methods, truncated

RANK = 32
# (layers, hidden, rows of k and v, of q, intermediate)
MODELS = {"gemma3-270m": (18, 640, 256, 1024, 2048), "llama-3.2-1b": (16, 2048, 512, 2048, 8192)}
PEERS = {  # PEFT's combination type, its options; ours, its parameters
    "svd": ({}, "svd", {}),
    "svd, thin": ({"svd_full_matrices": False}, "svd", {}),
    "ties_svd": ({"density": 0.2}, "ties_svd", {"density": 0.2}),
    "dare_linear_svd": ({"density": 0.5}, "dare_linear_svd", {"density": 0.5}),
    "magnitude_prune_svd": ({"density": 0.2}, "magnitude_prune_svd", {"density": 0.2}),
}


def shapes_of(model: str, layers: int | None = None) -> dict[str, tuple[int, int]]:
    """Module names and (out, in); of so many layers, all if None."""
    every, hidden, keys, queries, inner = MODELS[model]
    kinds = {
        "self_attn.q_proj": (queries, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, queries),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
    return {f"model.layers.{layer}.{kind}": shape for layer in range(layers or every) for kind, shape in kinds.items()}


def adapter_of(shapes: dict[str, tuple[int, int]], seed: int) -> Adapter:
    """An adapter whose singular values fall as those of trained ones do."""
    random = np.random.default_rng(seed)
    fall = np.exp(-np.arange(RANK) / 12).astype(np.float32)
    modules = {
        name: Factors(
            random.standard_normal((RANK, inside), np.float32) / inside**0.5,
            0.05 * random.standard_normal((out, RANK), np.float32) * fall,
        )
        for name, (out, inside) in shapes.items()
    }
    return Adapter(modules, AdapterCard(name=f"task{seed}", backbone="random", backbone_sha256="0" * 64))


class One(nn.Module):
    """A model of one linear module."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.q_proj = nn.Linear(size, size, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.q_proj(x)


def in_peft(adapters: list[Adapter], size: int) -> Any:
    """A PEFT model with the adapters."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=RANK, lora_alpha=RANK, target_modules=["q_proj"])
    model: Any = get_peft_model(One(size), config, adapter_name="first")
    model.add_adapter("second", config)
    layer = model.base_model.model.q_proj
    for name, adapter in zip(("first", "second"), adapters, strict=True):
        pair = adapter.modules["q_proj"]
        layer.lora_A[name].weight.data = torch.from_numpy(pair.a)
        layer.lora_B[name].weight.data = torch.from_numpy(pair.b)
    return model


def against_peft(rounds: int, size: int = 2048) -> Table:
    """PEFT's seconds and ours in turn, and our error against the exact answer."""
    adapters = [adapter_of({"q_proj": (size, size)}, seed) for seed in (0, 1)]
    model = in_peft(adapters, size)
    table = Table(title=f"One module, {size} x {size}, two adapters of rank {RANK}, cut to rank {RANK}")
    for head in ("combination", "PEFT, s", "calora, s", "times as fast", "error against exact"):
        table.add_column(head, justify="left" if head == "combination" else "right")
    for name, (options, ours, parameters) in PEERS.items():
        kind = name.partition(",")[0]
        peft_times, our_times = [], []
        for _ in range(rounds):
            begin = time.perf_counter()
            model.add_weighted_adapter(
                ["first", "second"], [1.0, 0.5], "merged", combination_type=kind, svd_rank=RANK, **options
            )
            peft_times.append(time.perf_counter() - begin)
            model.delete_adapter("merged")
            for _ in range(5):
                seconds, found = timed(lambda: merge(adapters, ours, (1.0, 0.5), preset="peft", **parameters))  # noqa: B023
                our_times.append(seconds)
        theirs, mine = statistics.median(peft_times), statistics.median(our_times)
        excess = f"{_excess(adapters, ours, found):.1e}"
        table.add_row(name, f"{theirs:.3f}", f"{mine:.4f}", f"{theirs / mine:.0f}", excess)
    return table


def _excess(adapters: list[Adapter], ours: str, found: Any) -> float:
    """How much further from the uncut merge ours is than the nearest of that rank, relative to its norm."""
    convention = {"svd": "product", "ties_svd": "ties", "dare_linear_svd": "dare"}.get(ours, "magnitude_prune")
    given = {} if convention == "product" else {"density": 0.5 if convention == "dare" else 0.2}
    whole = merge(adapters, convention, (1.0, 0.5), **given).modules["q_proj"]
    update = (whole.update() if isinstance(whole, Factors) else whole).astype(np.float64)
    values = np.linalg.svd(update, compute_uv=False)
    least = np.sqrt((values[RANK:] ** 2).sum())
    lost = np.linalg.norm(update - found.modules["q_proj"].update())
    return float((lost - least) / np.linalg.norm(update))


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what came out."""
    begin = time.perf_counter()
    found = work()
    return time.perf_counter() - begin, found


def every_method(rounds: int) -> Table:
    """Seconds and memory of each method on whole adapters."""
    table = Table(title=f"Two whole adapters of rank {RANK}")
    table.add_column("method")
    for model in MODELS:
        table.add_column(f"{model}\ns", justify="right")
        table.add_column("memory, largest\nupdates", justify="right")
    for name in merge_methods():
        full = isinstance(find_merge_method(name)(adapters_small()), DenseUpdate)
        options: dict[str, Any] = {"rank": RANK} if full else {}
        row = [f"{name}, one layer" if full else name]
        for model in MODELS:
            shapes = shapes_of(model, layers=1 if full else None)
            pair = [adapter_of(shapes, seed) for seed in (0, 1)]
            work = partial(merge, pair, name, **options)
            seconds = statistics.median(timed(work)[0] for _ in range(rounds))
            tracemalloc.start()
            found = work()
            held, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            largest = max(4 * out * inside for out, inside in shapes.values())
            row += [f"{seconds:.2f}", f"{(peak - held) / largest:.1f}"]
            del found
        table.add_row(*row)
    return table


def adapters_small() -> list[Adapter]:
    """Two adapters that merge at once."""
    return [adapter_of({"q_proj": (40, 40)}, seed) for seed in (0, 1)]


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    console = Console(width=110)
    console.print(against_peft(rounds))
    console.print(every_method(rounds))
    console.print(f"svd against numpy's in float64, relative: {_error():.1e}")


def _error() -> float:
    pair = [adapter_of({"q_proj": (2048, 2048)}, seed) for seed in (0, 1)]
    first, second = (one.modules["q_proj"].b.astype(np.float64) @ one.modules["q_proj"].a for one in pair)
    u, s, vt = np.linalg.svd(first + 0.5 * second)
    best = (u[:, :RANK] * s[:RANK]) @ vt[:RANK]
    found = truncated(merge(pair, "product", (1.0, 0.5)), rank=RANK)[0].modules["q_proj"].update()
    return float(np.linalg.norm(found - best) / np.linalg.norm(best))


if __name__ == "__main__":
    main()
