"""Gateways on real ports, and a device whose pace a test decides."""

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from typing import Any

import httpx2
import openai
import pytest
import uvicorn

from calora.serving import Piece
from calora.serving.gateway import Settings, make_app
from calora.serving.gateway.app import Gateway
from calora.serving.llama import LlamaServer, Request

TEXT = "Ann: Could you call me about the concert tonight?\nBob: Of course, I will do it after work."
PATIENCE = 120.0  # seconds: only a test that fails takes so long


@contextmanager
def serving(device: Any, settings: Settings | None = None) -> Iterator[tuple[str, Gateway]]:
    """A gateway's address, and its insides."""
    app = make_app(device, settings)
    config = uvicorn.Config(app, port=0, log_level="error", access_log=False, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started or not thread.is_alive())
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}", app.state.gateway
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def client_of(address: str, key: str = "none") -> Iterator[openai.OpenAI]:
    """OpenAI's client."""
    with openai.OpenAI(base_url=f"{address}/v1", api_key=key, max_retries=0, timeout=PATIENCE) as client:
        yield client


def http_of(address: str) -> httpx2.Client:
    """A plain client."""
    return httpx2.Client(base_url=address, timeout=PATIENCE)


def until(held: Callable[[], Any]) -> None:
    """Wait for a condition."""
    end = time.monotonic() + PATIENCE
    while not held():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


class Paced:
    """A device that gives a piece whenever a test lets it.

    Attributes:
        allowed: Released once a piece.
        begun: Texts whose answer has begun.
        closed: Texts whose answer was broken off.
        bulk: What a piece says.
    """

    offers, left_out, slots = [("summary", "calibrated")], dict[str, str](), 1

    def __init__(self, pieces: int = 3, bulk: str = "word ") -> None:
        self.allowed = threading.Semaphore(0)
        self.begun: list[str] = []
        self.closed: list[str] = []
        self.pieces, self.bulk = pieces, bulk

    def stream(self, name: str, text: str, way: str, **options: Any) -> Generator[Piece]:
        """As a device's."""
        self.begun.append(text)
        try:
            for number in range(self.pieces):
                assert self.allowed.acquire(timeout=PATIENCE)
                yield Piece(self.bulk, number + 1, 5, "stop" if number + 1 == self.pieces else None)
        except GeneratorExit:
            self.closed.append(text)
            raise

    def let(self, pieces: int) -> None:
        """Give so many pieces."""
        self.allowed.release(pieces)


@contextmanager
def watched_streams(pause: float = 0.0) -> Iterator[tuple[list[Request], list[Request]]]:
    """llama.cpp's streams while the block lasts: those that gave a piece, and those that were broken off.

    Args:
        pause: Seconds after each piece, so that no answer is whole before somebody can give it up.
    """
    begun: list[Request] = []
    ended: list[Request] = []
    stream = LlamaServer.stream

    def watched(self: LlamaServer, request: Request) -> Generator[dict[str, Any]]:
        whole = False
        with closing(stream(self, request)) as pieces:
            try:
                for number, piece in enumerate(pieces):
                    begun.extend([request] * (number == 0))
                    whole = bool(piece["stop"])
                    yield piece
                    time.sleep(pause)
            finally:
                ended.extend([request] * (not whole))

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(LlamaServer, "stream", watched)
        yield begun, ended


def chat(text: str, model: str = "summary", **fields: Any) -> dict[str, Any]:
    """The body of a chat request."""
    return {"model": model, "messages": [{"role": "user", "content": text}], **fields}
