"""Compositions on a device: the bundle, the runtime, the gateway and its page."""

from calora.serving.bundle import Bundle, BundleCard, check_bundle, open_bundle
from calora.serving.bundle_writing import add_composition, write_bundle
from calora.serving.device import Device
from calora.serving.engine import Piece, Sampling
from calora.serving.menu import Reply
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
