"""Copies of GGUF models with some of their weights changed or stored otherwise."""

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from calora.errors import CaloraError
from calora.export.layout import field, open_gguf
from calora.storage import Array, writing_file

Change = Callable[[str, Array], Array | None]


class Packing(StrEnum):
    """How a tensor is stored."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    Q8_0 = "q8_0"
    Q5_0 = "q5_0"
    Q4_0 = "q4_0"


def add_packed(writer: Any, name: str, values: Array, packing: Packing) -> None:
    """Add a matrix to a GGUF writer; where its rows do not divide into a packing's blocks of 32, in float16."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
    from gguf.quants import quantize

    kind = {Packing.FLOAT32: GGMLQuantizationType.F32, Packing.FLOAT16: GGMLQuantizationType.F16}.get(packing)
    kind = GGMLQuantizationType[packing.name] if kind is None else kind
    if values.shape[-1] % GGML_QUANT_SIZES[kind][0]:
        kind = GGMLQuantizationType.F16
    values = np.ascontiguousarray(values, np.float32)
    writer.add_tensor(name, values if kind == GGMLQuantizationType.F32 else quantize(values, kind), raw_dtype=kind)


def rewrite_gguf(source: Path, target: Path, change: Change, packing: Packing) -> None:
    """Copy a GGUF model, changing some of its weights.

    Args:
        source: A GGUF file.
        target: The copy, written whole or not at all.
        change: (name, weight in float32) to the weight to store; None copies the tensor byte for byte.
        packing: Of the weights that are changed.

    Raises:
        CaloraError: The source is no GGUF file.
    """
    from gguf import GGUFValueType, GGUFWriter
    from gguf.quants import dequantize

    if source.is_dir():
        raise CaloraError(
            f"{source} is no GGUF file",
            "export the merged folder, and convert that with llama.cpp's convert_hf_to_gguf.py",
        )
    reader = open_gguf(source)
    with writing_file(target) as temporary:
        writer = GGUFWriter(temporary, field(reader, "general.architecture", source))
        for key, found in reader.fields.items():
            if key.startswith("GGUF.") or key == "general.architecture":
                continue
            kind = found.types[0]
            inner = found.types[-1] if kind == GGUFValueType.ARRAY else None
            writer.add_key_value(key, found.contents(), kind, sub_type=inner)
        for tensor in reader.tensors:
            name = str(tensor.name)
            changed = None if len(tensor.shape) < 2 else change(name, dequantize(tensor.data, tensor.tensor_type))
            if changed is None:
                writer.add_tensor(name, tensor.data, raw_dtype=tensor.tensor_type)
            else:
                add_packed(writer, name, changed, packing)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def unpacked_gguf(source: Path, target: Path) -> None:
    """Copy a GGUF model with every matrix in float32: the same values, computed with in full."""
    rewrite_gguf(source, target, lambda name, weight: weight, Packing.FLOAT32)
