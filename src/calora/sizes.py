"""How large adapters and calibrations are for an architecture, from its config alone and without torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from calora.calibration import Kind
from calora.errors import CaloraError

# Model types whose layers are q, k, v, o, gate, up and down, one linear module each, with the values that
# transformers takes where a config.json leaves them out.
_DEFAULTS: dict[str, dict[str, int]] = {
    "gemma3_text": {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256},
    "llama": {},
    "mistral": {"num_key_value_heads": 8},
    "qwen2": {"num_key_value_heads": 32},
    "qwen3": {"num_key_value_heads": 32, "head_dim": 128},
    "stablelm": {"num_key_value_heads": 32},
}


@dataclass(frozen=True)
class Architecture:
    """What sizes depend on.

    Args:
        name: What tables call it.
        layers: The number of decoder layers.
        heads: Attention heads for queries.
        kv_heads: Attention heads for keys and values.
        shapes: (out, in) of the linear module of each kind, the same in every layer.
    """

    name: str
    layers: int
    heads: int
    kv_heads: int
    shapes: dict[str, tuple[int, int]]


@dataclass(frozen=True)
class SizeRow:
    """One line of a table of sizes, in parameters; the mean line may hold fractions.

    Args:
        name: The architecture, or `mean`.
        adapter: A whole adapter, which is what a joint expert costs.
        vector: A calibration of one vector a site: column-bias, row-scale, output-bias or output-scale.
        low_rank: A low-rank calibration.
    """

    name: str
    adapter: float
    vector: float
    low_rank: float


def architecture_from_config(config: Mapping[str, Any], name: str) -> Architecture:
    """Read the shapes from a Hugging Face config.json.

    Args:
        config: The file's content; of a multi-modal Gemma 3 the nested text model is taken.
        name: What tables and messages call the architecture.

    Raises:
        CaloraError: The model type is not supported, or a key is missing or no positive integer.
    """
    if not isinstance(config, Mapping):
        raise CaloraError(f"config of {name} holds no object", "give the whole config.json of the backbone")
    if config.get("model_type") == "gemma3":
        nested = config.get("text_config")
        config = nested if isinstance(nested, Mapping) else {}
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or model_type not in _DEFAULTS:
        raise CaloraError(
            f"config of {name}: model type {model_type!r} is not supported",
            f"supported: {', '.join(_DEFAULTS)}; models with experts or fused projections have other modules",
        )
    given = {key: value for key, value in config.items() if value is not None}
    known = _DEFAULTS[model_type] | given
    if config.get("num_key_value_heads", 0) is None:  # written as null it is the heads, left out the default
        known.pop("num_key_value_heads", None)

    def size(key: str, otherwise: int | None = None) -> int:
        value = known.get(key, otherwise)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            found = "is missing" if value is None else f"is {value!r}"
            raise CaloraError(
                f"config of {name}: {key} {found}, expected a positive integer",
                "give the whole config.json of the backbone",
            )
        return value

    hidden, heads = size("hidden_size"), size("num_attention_heads")
    return _architecture(
        name,
        layers=size("num_hidden_layers"),
        hidden=hidden,
        heads=heads,
        kv_heads=size("num_key_value_heads", heads),
        head=size("head_dim", hidden // heads),
        mlp=size("intermediate_size"),
    )


def _architecture(
    name: str, *, layers: int, hidden: int, heads: int, kv_heads: int, head: int, mlp: int
) -> Architecture:
    query, key_value = heads * head, kv_heads * head
    shapes = {
        "q_proj": (query, hidden),
        "k_proj": (key_value, hidden),
        "v_proj": (key_value, hidden),
        "o_proj": (hidden, query),
        "gate_proj": (mlp, hidden),
        "up_proj": (mlp, hidden),
        "down_proj": (hidden, mlp),
    }
    return Architecture(name, layers, heads, kv_heads, shapes)


PAPER: tuple[Architecture, ...] = (
    _architecture("LLaMA 3.2 1B", layers=16, hidden=2048, heads=32, kv_heads=8, head=64, mlp=8192),
    _architecture("Qwen2.5 1.5B", layers=28, hidden=1536, heads=12, kv_heads=2, head=128, mlp=8960),
    _architecture("StableLM2 1.6B", layers=24, hidden=2048, heads=32, kv_heads=32, head=64, mlp=5632),
)


@dataclass(frozen=True)
class Model:
    """A model whose size is known without fetching it.

    Args:
        architecture: Its layers.
        parameters: Of the whole model, embeddings once.
    """

    architecture: Architecture
    parameters: float


KNOWN_MODELS: dict[str, Model] = {
    "gemma3-270m": Model(
        _architecture("Gemma 3 270M", layers=18, hidden=640, heads=4, kv_heads=1, head=256, mlp=2048), 268e6
    ),
    "smollm2-135m": Model(
        _architecture("SmolLM2 135M", layers=30, hidden=576, heads=9, kv_heads=3, head=64, mlp=1536), 135e6
    ),
    "meta-llama/Llama-3.2-1B": Model(PAPER[0], 1.236e9),
    "Qwen/Qwen2.5-1.5B": Model(PAPER[1], 1.544e9),
    "stabilityai/stablelm-2-1_6b": Model(PAPER[2], 1.645e9),
    "Qwen/Qwen2.5-0.5B": Model(
        _architecture("Qwen2.5 0.5B", layers=24, hidden=896, heads=14, kv_heads=2, head=64, mlp=4864), 494e6
    ),
    "meta-llama/Llama-3.2-3B": Model(
        _architecture("LLaMA 3.2 3B", layers=28, hidden=3072, heads=24, kv_heads=8, head=128, mlp=8192), 3.213e9
    ),
}


def adapter_parameters(arch: Architecture, rank: int = 32) -> int:
    """Parameters of an adapter on every linear module of every layer."""
    return arch.layers * _low_rank(arch, rank)


def calibration_parameters(arch: Architecture, kind: Kind, rank: int = 4, per_layer: bool = False) -> int:
    """Parameters of a calibration.

    Args:
        arch: The backbone's architecture.
        kind: What is learnt at each site.
        rank: Of low-rank; the other kinds have none.
        per_layer: Each layer learns its own, where otherwise all layers share.
    """
    shared = _low_rank(arch, rank) if kind == "low-rank" else sum(out for out, _ in arch.shapes.values())
    return shared * (arch.layers if per_layer else 1)


def _low_rank(arch: Architecture, rank: int) -> int:
    return rank * sum(out + inside for out, inside in arch.shapes.values())


def mebibytes(parameters: float, bytes_each: int = 2) -> float:
    """Size in MiB, in bfloat16 unless told, without a file's header."""
    return parameters * bytes_each / 2**20


def size_rows(archs: Sequence[Architecture]) -> list[SizeRow]:
    """One row an architecture, at the paper's ranks (adapter 32, calibration 4), and the mean of several."""
    rows = [
        SizeRow(
            arch.name,
            adapter_parameters(arch),
            calibration_parameters(arch, "column-bias"),
            calibration_parameters(arch, "low-rank"),
        )
        for arch in archs
    ]
    return [*rows, _mean(rows)] if len(rows) > 1 else rows


def _mean(rows: Sequence[SizeRow]) -> SizeRow:
    return SizeRow(
        "mean",
        fmean(row.adapter for row in rows),
        fmean(row.vector for row in rows),
        fmean(row.low_rank for row in rows),
    )


def render_sizes(archs: Sequence[Architecture]) -> Table:
    """The table of `size_rows`: parameters, MiB in bfloat16, and share of the adapter, within 80 columns."""
    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
        caption="adapter of rank 32, low-rank of rank 4; MiB in bfloat16, % of the adapter;\n"
        "vector: column-bias, row-scale, output-bias or output-scale",
    )
    table.add_column("backbone", overflow="fold")
    for header in ("adapter", "MiB", "vector", "MiB", "%", "low-rank", "MiB", "%"):
        table.add_column(header, justify="right", no_wrap=True)
    for number, row in enumerate(size_rows(archs), start=1):
        table.add_row(
            Text(row.name),
            f"{row.adapter:,.0f}",
            f"{mebibytes(row.adapter):.2f}",
            *_calibration_cells(row.vector, row.adapter),
            *_calibration_cells(row.low_rank, row.adapter),
            end_section=number == len(archs),
        )
    return table


def _calibration_cells(parameters: float, adapter: float) -> tuple[str, str, str]:
    return f"{parameters:,.0f}", f"{mebibytes(parameters):.3f}", f"{100 * parameters / adapter:.2f}"
