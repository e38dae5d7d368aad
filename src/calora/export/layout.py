"""What an exporter knows of a backbone: its architecture, and the name and shape of each module as GGUF has them."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from calora.adapter import Adapter
from calora.backbone_files import config_folder
from calora.embedded import EMBEDDED, embedded_gguf
from calora.errors import CaloraError
from calora.export.packed import open_gguf
from calora.packing import split_packing
from calora.sizes import architecture_from_config

_GGUF_NAMES = {"gemma3_text": "gemma3", "mistral": "llama"}
_PARTS = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_KINDS = {name.rpartition(".")[2]: (part, name) for part, name in _PARTS.items()}


@dataclass(frozen=True)
class Layout:
    """A backbone without its weights.

    Args:
        name: What `Backbone.load` takes for its plain weights.
        path: A GGUF file, or a Hugging Face folder.
        architecture: As GGUF names it, such as `llama` or `gemma3`.
        layers: The number of decoder layers.
        heads: Attention heads for queries.
        kv_heads: Attention heads for keys and values.
        shapes: Module, as transformers names it, to (out, in).
        context: Tokens that it was trained to read; None where the backbone does not say.
    """

    name: str
    path: Path
    architecture: str
    layers: int
    heads: int
    kv_heads: int
    shapes: dict[str, tuple[int, int]]
    context: int | None

    @cached_property
    def gguf_names(self) -> dict[str, str]:
        """Module, as transformers names it, to the name of its weight in a GGUF file."""
        names = {}
        for module in self.shapes:
            layer, _, part = module.removeprefix("model.layers.").partition(".")
            names[module] = f"blk.{layer}.{_KINDS[part.rpartition('.')[2]][0]}.weight"
        return names

    def check(self, adapter: Adapter, name: str | None = None) -> None:
        """Refuse an adapter whose modules or shapes are not this backbone's.

        Args:
            adapter: Any.
            name: What to call it; its card's name if None.

        Raises:
            CaloraError: Names the first module that does not fit.
        """
        name = name or (adapter.card.name if adapter.card else "the adapter")
        for module, factors in adapter.modules.items():
            expected = self.shapes.get(module)
            if factors.shape != expected:
                raise CaloraError(
                    f"{name}: {module} is {factors.shape}, in {self.path} it is {expected or 'not there'}",
                    "use the backbone the adapter was trained on",
                )


def read_layout(name_or_path: str | Path) -> Layout:
    """Read the layout of a backbone; no weight is read.

    Args:
        name_or_path: What `Backbone.load` takes; whether its weights are to stay packed makes no difference here.

    Raises:
        CaloraError: It is missing or damaged, or of an architecture whose modules calora does not know.
    """
    name, _ = split_packing(str(name_or_path))
    if name in EMBEDDED:
        return _from_gguf(embedded_gguf(name), name)
    if Path(name).suffix == ".gguf":
        return _from_gguf(Path(name), name)
    return _from_folder(config_folder(name), name)


def field(reader: Any, key: str, path: Path) -> Any:
    """The value of a GGUF key.

    Raises:
        CaloraError: The file does not have it.
    """
    found = reader.get_field(key)
    if found is None:
        raise CaloraError(f"{path}: {key} is missing", "expected the GGUF file of a language model")
    return found.contents()


def _from_gguf(path: Path, name: str) -> Layout:
    reader = open_gguf(path)
    architecture = str(field(reader, "general.architecture", path))
    if reader.get_field("general.type") and field(reader, "general.type", path) != "model":
        raise CaloraError(f"{path} holds no model", "expected the GGUF file of a language model")
    layers = int(field(reader, f"{architecture}.block_count", path))
    heads = _heads(field(reader, f"{architecture}.attention.head_count", path), path)
    kv_heads = reader.get_field(f"{architecture}.attention.head_count_kv")
    context = reader.get_field(f"{architecture}.context_length")
    tensors = {str(tensor.name): tuple(int(side) for side in tensor.shape) for tensor in reader.tensors}
    shapes = {}
    for layer in range(layers):
        for part, module in _PARTS.items():
            shape = tensors.get(f"blk.{layer}.{part}.weight")
            if shape is None or len(shape) != 2:
                raise CaloraError(
                    f"{path}: blk.{layer}.{part}.weight is {'missing' if shape is None else shape}",
                    f"calora adapts {', '.join(_PARTS)} of each layer, one matrix each; {architecture} has other ones",
                )
            shapes[f"model.layers.{layer}.{module}"] = (shape[1], shape[0])
    return Layout(
        name=name,
        path=path,
        architecture=architecture,
        layers=layers,
        heads=heads,
        kv_heads=_heads(kv_heads.contents(), path) if kv_heads else heads,
        shapes=shapes,
        context=int(context.contents()) if context else None,
    )


def _heads(found: Any, path: Path) -> int:
    if isinstance(found, list):
        raise CaloraError(f"{path} tells the heads of each layer apart", "calora adapts backbones with layers alike")
    return int(found)


def _from_folder(folder: Path, name: str) -> Layout:
    file = folder / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CaloraError(
            f"{file} is missing", "expected a GGUF file, a Hugging Face folder, or an embedded backbone's name"
        ) from error
    except ValueError as error:
        raise CaloraError(f"{file} is not JSON: {error}", "copy the backbone again") from error
    found = architecture_from_config(config, str(folder))
    kind = str(config["model_type"])
    if "text_config" in config:
        raise CaloraError(
            f"{file} is of a multi-modal {kind}, whose language model has its modules elsewhere",
            "save its language model alone, as a folder or a GGUF file, and name that",
        )
    shapes = {
        f"model.layers.{layer}.{_KINDS[part][1]}": shape
        for layer in range(found.layers)
        for part, shape in found.shapes.items()
    }
    return Layout(
        name=name,
        path=folder,
        architecture=_GGUF_NAMES.get(kind, kind),
        layers=found.layers,
        heads=found.heads,
        kv_heads=found.kv_heads,
        shapes=shapes,
        context=config.get("max_position_embeddings"),
    )
