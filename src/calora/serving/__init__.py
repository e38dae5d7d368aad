"""Compositions on a device: the bundle, the runtime, the gateway and its page."""

from calora.serving.bundle import Bundle, BundleCard, add_composition, check_bundle, open_bundle, write_bundle
from calora.serving.device import Device, Reply
from calora.serving.engine import Piece, Sampling
from calora.serving.ready_made import ready_made

__all__ = [
    "Bundle",
    "BundleCard",
    "Device",
    "Piece",
    "Reply",
    "Sampling",
    "add_composition",
    "check_bundle",
    "open_bundle",
    "ready_made",
    "write_bundle",
]
