"""Training of adapters and calibrations through transformers' Trainer."""
