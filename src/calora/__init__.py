"""calora: calibrated merges of LoRA adapters, two tasks in one pass."""

__version__ = "0.1.0"
