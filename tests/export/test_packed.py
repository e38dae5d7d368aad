from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType
from gguf.quants import dequantize

from calora.backbone import Backbone
from calora.errors import CaloraError
from calora.export.packed import Packing, open_gguf, rewrite_gguf, unpacked_gguf

Pair = tuple[Backbone, Path]


def test_a_quick_reader_finds_what_a_thorough_one_does(pair: Pair) -> None:
    _, file = pair
    quick, thorough = open_gguf(file), GGUFReader(file)
    assert list(quick.fields) == list(thorough.fields)
    for name, field in thorough.fields.items():
        assert quick.fields[name].types[:2] == field.types[:2]
        if field.types[0] != GGUFValueType.ARRAY:
            assert quick.fields[name].contents() == field.contents()
    for found, expected in zip(quick.tensors, thorough.tensors, strict=True):
        assert (found.name, found.data_offset) == (expected.name, expected.data_offset)
        np.testing.assert_array_equal(found.data, expected.data)


def test_nothing_changed_is_the_same_file(pair: Pair, tmp_path: Path) -> None:
    _, file = pair
    rewrite_gguf(file, tmp_path / "same.gguf", {}, Packing.Q4_0)
    assert (tmp_path / "same.gguf").read_bytes() == file.read_bytes()
    unpacked_gguf(file, tmp_path / "unpacked.gguf")
    assert (tmp_path / "unpacked.gguf").read_bytes() == file.read_bytes()  # all of it is float32 already


def test_what_is_packed_is_unpacked_to_the_values_it_stands_for(packed: Path, tmp_path: Path) -> None:
    unpacked_gguf(packed, tmp_path / "unpacked.gguf")
    pairs = zip(GGUFReader(packed).tensors, GGUFReader(tmp_path / "unpacked.gguf").tensors, strict=True)
    for before, after in pairs:
        wide = len(before.shape) > 1
        assert before.tensor_type == (GGMLQuantizationType.Q8_0 if wide else GGMLQuantizationType.F32)
        assert (after.name, after.tensor_type) == (before.name, GGMLQuantizationType.F32)
        np.testing.assert_array_equal(after.data, dequantize(before.data, before.tensor_type))


def test_one_change_is_one_change(pairs: dict[str, Pair], tmp_path: Path) -> None:
    _, file = pairs["llama"]
    name = "blk.1.ffn_up.weight"
    rewrite_gguf(file, tmp_path / "new.gguf", {name: lambda weight: 2 * weight}, Packing.FLOAT16)
    before, after = ({str(one.name): one for one in GGUFReader(path).tensors} for path in (file, tmp_path / "new.gguf"))
    for key, tensor in before.items():
        expected = (2 * tensor.data).astype(np.float16) if key == name else tensor.data
        np.testing.assert_array_equal(after[key].data, expected)


@pytest.mark.parametrize("keep", [0, 30, 2000])
def test_what_is_cut_is_told(pairs: dict[str, Pair], keep: int, tmp_path: Path) -> None:
    _, file = pairs["llama"]
    (tmp_path / "cut.gguf").write_bytes(file.read_bytes()[:keep])
    with pytest.raises(CaloraError, match=r"cut\.gguf is not a whole GGUF file"):
        open_gguf(tmp_path / "cut.gguf")
