"""What float16 holds of factors of any lengths."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from calora.adapter import Adapter, Factors, read_adapter
from calora.backbone import Backbone
from calora.errors import CaloraError
from calora.export import export_adapter, read_layout
from calora.export.gguf import read_gguf_adapter
from calora.storage import read_tensors
from tests.conftest import random_adapter

Pair = tuple[Backbone, Path]


def scaled(adapter: Adapter, a: float, b: float) -> Adapter:
    return Adapter(
        {name: Factors(np.float32(a) * part.a, np.float32(b) * part.b) for name, part in adapter.modules.items()}
    )


def from_mlx(folder: Path) -> Adapter:
    tensors = read_tensors(folder / "adapters.safetensors")
    names = {name.rpartition(".")[0] for name in tensors}
    return Adapter({name: Factors(tensors[f"{name}.lora_a"].T, tensors[f"{name}.lora_b"].T) for name in names})


def far(found: Adapter, expected: Adapter) -> float:
    """The largest relative error of an update, in the Frobenius norm."""
    pairs = ((found.modules[name].update(), part.update()) for name, part in expected.modules.items())
    return max(float(np.linalg.norm(one - other) / np.linalg.norm(other)) for one, other in pairs)


@pytest.mark.parametrize(("a", "b"), [(1e2, 1e-8), (1e5, 1e-3), (1e-8, 1e2)])
@pytest.mark.parametrize(
    ("format", "dtype", "most"),
    [("gguf", "float16", 1e-3), ("gguf", "q8_0", 2e-2), ("mlx", "float16", 1e-3), ("peft", "float16", 1e-3)],
)
def test_an_update_is_kept_however_its_factors_share_it(
    pairs: dict[str, Pair], tmp_path: Path, format: str, dtype: str, most: float, a: float, b: float
) -> None:
    backbone, file = pairs["llama"]
    adapter = scaled(random_adapter(backbone, rank=32), a, b)
    target = tmp_path / ("a.gguf" if format == "gguf" else "a")
    export_adapter(adapter, format, target, file, dtype=dtype)
    read: dict[str, Callable[[Path], Adapter]] = {
        "gguf": lambda path: read_gguf_adapter(path, read_layout(file)),
        "mlx": from_mlx,
        "peft": read_adapter,
    }
    assert far(read[format](target), adapter) < most


def test_factors_of_ordinary_lengths_are_rounded_once(pairs: dict[str, Pair], tmp_path: Path) -> None:
    backbone, file = pairs["llama"]
    adapter = random_adapter(backbone)
    export_adapter(adapter, "peft", tmp_path / "a", file, dtype="float16")
    found = read_adapter(tmp_path / "a")
    for name, part in adapter.modules.items():
        rounded = part.b.astype(np.float16).astype(np.float32) @ part.a.astype(np.float16).astype(np.float32)
        np.testing.assert_allclose(found.modules[name].update(), rounded, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("format", "dtype"),
    [
        ("gguf", "float16"),
        ("gguf", "q8_0"),
        ("mlx", "float16"),
        ("peft", "float16"),
        ("merged-gguf", "float16"),
        ("merged", "float16"),
    ],
)
def test_what_is_too_large_is_refused(pairs: dict[str, Pair], tmp_path: Path, format: str, dtype: str) -> None:
    backbone, file = pairs["llama"]
    adapter = scaled(random_adapter(backbone, rank=32), 1e8, 1e8)
    target = tmp_path / ("a.gguf" if format.endswith("gguf") else "a")
    of = backbone.name if format == "merged" else file
    with pytest.raises(CaloraError, match=r"too large for|not finite in float16"):
        export_adapter(adapter, format, target, of, dtype=dtype)
    assert not target.exists()
