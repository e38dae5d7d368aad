"""Adapters for MLX-LM: the factors transposed, the scale explicit, one rank for all.

What mlx_lm/tuner/utils.py (load_adapters) reads: adapter_config.json with `num_layers` (counted from the last) and
`lora_parameters`, whose `keys` are module paths inside a layer; adapters.safetensors with `lora_a` [in, rank] and
`lora_b` [rank, out].
"""

import json
from pathlib import Path

from calora.adapter import Adapter
from calora.errors import CaloraError
from calora.export.layout import Layout
from calora.export.registry import exporter
from calora.storage import write_tensors, write_text, writing_folder


@exporter("mlx", runtimes="MLX-LM", dtypes=("float16", "bfloat16", "float32"))
def write_mlx(adapter: Adapter, layout: Layout, target: Path, dtype: str) -> None:
    """Write an adapter folder for MLX-LM.

    Raises:
        CaloraError: Some layers lack modules that others have, where MLX-LM adapts the same ones in every layer; or an
            update is too large for the dtype.
    """
    parts = {module: module.removeprefix("model.layers.").partition(".")[2] for module in adapter.modules}
    keys = sorted(set(parts.values()))
    if len(adapter.modules) != len(keys) * layout.layers:
        raise CaloraError(
            f"the adapter has {len(adapter.modules)} modules, not {len(keys)} in each of {layout.layers} layers",
            "MLX-LM adapts the same modules in every layer",
        )
    config = {
        "fine_tune_type": "lora",
        "num_layers": layout.layers,
        "lora_parameters": {"rank": adapter.rank, "scale": 1.0, "dropout": 0.0, "keys": keys},
    }
    tensors = {}
    for module, update in adapter.modules.items():
        tensors[f"{module}.lora_a"] = update.a.T
        tensors[f"{module}.lora_b"] = update.b.T
    with writing_folder(target) as temporary:
        write_text(temporary / "adapter_config.json", json.dumps(config, indent=2) + "\n")
        write_tensors(temporary / "adapters.safetensors", tensors, dtype)
