"""Adapters in the formats of other runtimes, one format a file."""

from calora.export import gguf, merged, mlx, peft
from calora.export.layout import Layout, read_layout
from calora.export.manifest import Manifest, export_adapter, read_manifest
from calora.export.registry import Exporter, exporter, exporters

__all__ = [
    "Exporter",
    "Layout",
    "Manifest",
    "export_adapter",
    "exporter",
    "exporters",
    "gguf",
    "merged",
    "mlx",
    "peft",
    "read_layout",
    "read_manifest",
]
