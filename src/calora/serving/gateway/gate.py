"""What each request passes first: the key, the limits and the counting, before its body has been read."""

import asyncio
import hmac
import time
from urllib.parse import urlsplit

from fastapi import Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from calora.addresses import is_loopback
from calora.serving.gateway.errors import GONE, Refusal
from calora.serving.gateway.metrics import Metrics
from calora.serving.gateway.settings import Settings

_DRAINED = 8  # times the limit; a client that still sends when the answer comes may never see it


class Gate:
    """Who may enter.

    Args:
        settings: Of the gateway.
        metrics: Where requests are counted.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.settings = settings
        self.metrics = metrics
        self.inside = 0
        self.stopping = False

    def refusal(self, path: str, headers: Headers) -> Refusal | None:
        """Why a request may not enter; None if it may."""
        guarded = path.startswith("/v1/") or path == "/metrics"
        key = self.settings.api_key
        if guarded and key and not hmac.compare_digest(_bearer(headers), key.encode()):
            return Refusal(
                401,
                "the API key is missing or wrong; send it as Authorization: Bearer KEY",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )
        if self.stopping and path != "/metrics":
            return Refusal(503, "the gateway is being stopped; ask another one, or later", code="stopping")
        if self.inside >= self.settings.open:
            return Refusal(
                429,
                f"{self.inside} requests are under way, and no more may; try again in a moment",
                code="too_many_requests",
                headers={"Retry-After": "1"},
            )
        return None

    def receiving(self, receive: Receive, until: float) -> Receive:
        """A `receive` that reads no more than a body may have, and no longer than until then."""
        size, whole = 0, False

        async def received() -> Message:
            nonlocal size, whole
            if whole:
                return await receive()
            try:
                async with asyncio.timeout_at(until):
                    message = await receive()
                    size += len(message.get("body", b""))
                    while self.settings.body < size <= _DRAINED * self.settings.body and message.get("more_body"):
                        message = await receive()
                        size += len(message.get("body", b""))
            except TimeoutError as error:
                raise Refusal(408, "the body took too long to come", code="timeout") from error
            if size > self.settings.body:
                raise Refusal(413, f"the body is larger than {self.settings.body} bytes", code="body_too_large")
            whole = not message.get("more_body", False)
            return message

        return received


class Guarded:
    """An application behind a gate.

    Args:
        app: The application.
        gate: The gate.
    """

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        self.app, self.gate = app, gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        gate, began, state, status = self.gate, time.monotonic(), scope.setdefault("state", {}), GONE

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        state["until"] = until = asyncio.get_running_loop().time() + gate.settings.seconds
        refusal = gate.refusal(scope["path"], Headers(scope=scope))
        gate.inside += 1
        try:
            app = refusal.response if refusal else self.app
            await app(scope, gate.receiving(receive, until), sent)
        except Exception:
            status = 500
            raise
        finally:
            gate.inside -= 1
            if scope["path"].startswith("/v1/"):
                gate.metrics.request(state.get("model", ""), state.get("ended", status), time.monotonic() - began)


def operator_only(settings: Settings, request: Request) -> None:
    """Refuse what only the operator may do: by the key, or where there is none from this machine.

    A proxy on this machine that does not say for whom it asks (X-Forwarded-For) is this machine; so it needs the key.

    Raises:
        Refusal: The request comes from elsewhere, or from a page of elsewhere in a browser of this machine.
    """
    if settings.api_key:
        return  # the gate has looked at it
    origin = request.headers.get("origin")
    here = is_loopback(request.client.host if request.client else None)
    if not here or (origin and not is_loopback(urlsplit(origin).hostname)):
        raise Refusal(403, "only this machine may do that; start the gateway with an API key to do it from elsewhere")


def _bearer(headers: Headers) -> bytes:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip().encode("latin-1") if scheme.lower() == "bearer" else b""
