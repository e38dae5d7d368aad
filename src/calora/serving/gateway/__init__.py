"""The HTTP gateway: a device's compositions as the models of an OpenAI-compatible API."""

from calora.serving.gateway.app import make_app
from calora.serving.gateway.settings import Settings

__all__ = ["Settings", "make_app"]
