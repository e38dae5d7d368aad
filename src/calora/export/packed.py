"""GGUF models: read without their vocabulary, and copied with some of their weights changed or stored otherwise."""

import struct
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFReader, GGUFValueType
from gguf.quants import dequantize, quantize

from calora.errors import CaloraError
from calora.storage import Array, writing_file

Change = Callable[[Array], Array]
_HEADER = 24  # magic, version, number of tensors, number of keys


class Packing(StrEnum):
    """How a matrix is stored."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    Q8_0 = "q8_0"
    Q5_0 = "q5_0"
    Q4_0 = "q4_0"

    def kind(self, row: int) -> GGMLQuantizationType:
        """GGUF's type for rows of a length; float16 where they do not divide into blocks."""
        plain = {Packing.FLOAT32: GGMLQuantizationType.F32, Packing.FLOAT16: GGMLQuantizationType.F16}
        kind = plain[self] if self in plain else GGMLQuantizationType[self.name]
        return GGMLQuantizationType.F16 if row % GGML_QUANT_SIZES[kind][0] else kind


class QuickReader(GGUFReader):
    """Steps over arrays: gguf's own reader makes a view of each token, 262 thousand of them for Gemma.

    The arrays' fields are there, without contents; all else is as in `GGUFReader`.
    """

    keys_end = _HEADER

    def _get_field_parts(self, orig_offs: int, raw_type: int) -> tuple[int, list[Any], list[int], list[Any]]:
        if raw_type != GGUFValueType.ARRAY:
            found: tuple[int, list[Any], list[int], list[Any]] = super()._get_field_parts(orig_offs, raw_type)
            return found
        kind = GGUFValueType(int(self._get(orig_offs, np.uint32)[0]))
        count = int(self._get(orig_offs + 4, np.uint64)[0])
        begin = end = orig_offs + 12
        if kind == GGUFValueType.STRING:
            held: Any = self.data
            data = memoryview(held)
            for _ in range(count):
                end += 8 + int.from_bytes(data[end : end + 8], "little" if self.byte_order == "I" else "big")
                if end > len(data):
                    raise ValueError("the file ends inside an array")
        else:
            end += count * np.dtype(self.gguf_scalar_to_np[kind]).itemsize
        return end - orig_offs, [self.data[orig_offs:begin], self.data[begin:end]], [], [GGUFValueType.ARRAY, kind]

    def _build_fields(self, offs: int, count: int) -> int:
        self.keys_end = int(super()._build_fields(offs, count))
        return self.keys_end


def open_gguf(path: Path) -> QuickReader:
    """A reader of a GGUF file, its tensors mapped and not read.

    Raises:
        CaloraError: It is missing, truncated or damaged.
    """
    try:
        return QuickReader(path)
    except FileNotFoundError as error:
        raise CaloraError(f"{path} is missing", "expected a GGUF file") from error
    except (OSError, ValueError, IndexError, KeyError) as error:
        raise CaloraError(f"{path} is not a whole GGUF file: {error}", "copy or make the file again") from error


def add_packed(writer: Any, name: str, values: Array, packing: Packing) -> None:
    """Add a matrix to a GGUF writer.

    Raises:
        CaloraError: A value is too large for the packing.
    """
    kind = packing.kind(values.shape[-1])
    writer.add_tensor(name, _packed(name, values, kind), raw_dtype=kind)


def rewrite_gguf(source: Path, target: Path, changes: Mapping[str, Change], packing: Packing) -> None:
    """Copy a GGUF model, changing some of its weights; all else is copied byte for byte.

    Args:
        source: A GGUF file.
        target: The copy, written whole or not at all.
        changes: Name of a tensor to the change of its weight, in float32.
        packing: Of the weights that are changed.

    Raises:
        CaloraError: The source is no GGUF file, or a value is too large for the packing.
    """
    if source.is_dir():
        raise CaloraError(
            f"{source} is no GGUF file",
            "export the merged folder, and convert that with llama.cpp's convert_hf_to_gguf.py",
        )
    reader = open_gguf(source)
    if reader.byte_order != "I":
        raise CaloraError(f"{source} is written for another order of bytes", "convert it for this machine")
    kinds = {
        str(tensor.name): packing.kind(int(tensor.shape[0])) if tensor.name in changes else tensor.tensor_type
        for tensor in reader.tensors
    }
    with writing_file(target) as temporary, temporary.open("wb") as out:
        out.write(reader.data[: reader.keys_end].tobytes())
        offset = 0
        for tensor in reader.tensors:
            name = str(tensor.name).encode()
            out.write(struct.pack("<Q", len(name)) + name)
            out.write(struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *map(int, tensor.shape)))
            out.write(struct.pack("<IQ", kinds[str(tensor.name)], offset))
            block, size = GGML_QUANT_SIZES[kinds[str(tensor.name)]]
            offset += _aligned(int(tensor.n_elements) // block * size, reader.alignment)
        _pad(out, reader.alignment)
        for tensor in reader.tensors:
            change, values = changes.get(str(tensor.name)), tensor.data
            if change is not None:
                changed = change(dequantize(tensor.data, tensor.tensor_type))
                values = _packed(str(tensor.name), changed, kinds[str(tensor.name)])
            out.write(np.ascontiguousarray(values).tobytes())
            _pad(out, reader.alignment)


def unpacked_gguf(source: Path, target: Path) -> None:
    """Copy a GGUF model with every matrix in float32: the same values, computed with in full."""
    names = [str(tensor.name) for tensor in open_gguf(source).tensors if len(tensor.shape) > 1]
    rewrite_gguf(source, target, dict.fromkeys(names, lambda weight: weight), Packing.FLOAT32)


def _packed(name: str, values: Array, kind: GGMLQuantizationType) -> Any:
    values = np.ascontiguousarray(values, np.float32)
    if kind == GGMLQuantizationType.F32:
        return values
    with np.errstate(over="ignore", invalid="ignore"):
        packed = quantize(values, kind)
        if not np.isfinite(dequantize(packed, kind)).all():
            raise CaloraError(f"{name} holds values that are too large for {kind.name}", "write it in float32")
    return packed


def _aligned(size: int, alignment: int) -> int:
    return -(-size // alignment) * alignment


def _pad(out: BinaryIO, alignment: int) -> None:
    place = out.tell()
    out.write(b"\0" * (_aligned(place, alignment) - place))
