"""PEFT's own format, as vLLM, LoRAX, TGI and transformers load it: one rank, alpha = rank, no patterns."""

from pathlib import Path

from calora.adapter import Adapter, write_adapter
from calora.export.layout import Layout
from calora.export.registry import exporter


@exporter("peft", runtimes="PEFT, transformers, vLLM, LoRAX, TGI", dtypes=("bfloat16", "float16", "float32"))
def write_peft(adapter: Adapter, layout: Layout, target: Path, dtype: str) -> None:
    """Write an adapter folder in PEFT's format, for the backbone that was named."""
    write_adapter(adapter, target, dtype, base=layout.name)
