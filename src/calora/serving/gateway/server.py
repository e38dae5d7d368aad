"""A gateway on a port, until a signal stops it."""

import asyncio
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn

from calora.addresses import is_loopback
from calora.errors import CaloraError
from calora.serving.device import Device
from calora.serving.gateway.app import Gateway, make_app
from calora.serving.gateway.settings import Settings

_TICK = 0.05


def bind(host: str, port: int) -> socket.socket:
    """Take a port, and listen on it: two may be bound to one, and only one may listen.

    Args:
        host: A name or an address, of IPv4 or IPv6.
        port: 0 for any that is free.

    Raises:
        CaloraError: It is taken, or is not this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise CaloraError(f"{host} is no address to listen on: {error}", "give 127.0.0.1 or 0.0.0.0") from error
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen()
    except OSError as error:
        found.close()
        raise CaloraError(f"cannot listen on {host}, port {port}: {error}", "choose another --port") from error
    return found


def is_open(place: socket.socket) -> bool:
    """Whether other machines reach it."""
    return not is_loopback(place.getsockname()[0])


class Server(uvicorn.Server):
    """A server that at a signal refuses what is new, and lets what is under way end.

    Args:
        config: Of uvicorn; its app is the gateway's.
        gateway: The gateway.
        ready: Called when requests are taken.
    """

    def __init__(self, config: uvicorn.Config, gateway: Gateway, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._gateway, self._ready = gateway, ready
        self._ending: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to take requests."""
        await super().startup(sockets)
        self._ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop; a second signal breaks off what is under way."""
        if self._gateway.gate.stopping:
            self.should_exit = self.force_exit = True
            return
        self._gateway.gate.stopping = True
        asyncio.get_running_loop().call_soon_threadsafe(self._begin_to_end)

    def _begin_to_end(self) -> None:
        self._ending = asyncio.create_task(self._end())

    async def _end(self) -> None:
        """Requests are still answered, with 503, while older ones end."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._gateway.settings.stopping
        while self._gateway.gate.inside and loop.time() < until:
            await asyncio.sleep(_TICK)
        self.should_exit = True


def serve(device: Device, settings: Settings, place: socket.socket, ready: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT, then close the device.

    Args:
        device: Open.
        settings: Limits, and the key.
        place: Listening.
        ready: Called when requests are taken.
    """
    app = make_app(device, settings)
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=1, lifespan="on"
    )
    try:
        Server(config, app.state.gateway, ready).run(sockets=[place])
    finally:
        device.close()
