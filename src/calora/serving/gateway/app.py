"""The gateway's routes, over a device that is open."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse, Response

import calora
from calora.errors import CaloraError
from calora.serving import playground
from calora.serving.device import Device
from calora.serving.gateway.answers import Events, awaited, collected, events
from calora.serving.gateway.ending import ended
from calora.serving.gateway.errors import Refusal, add_handlers, message_of
from calora.serving.gateway.forms import ChatForm, CompletionForm, Form, Letter
from calora.serving.gateway.gate import Gate, Guarded, operator_only
from calora.serving.gateway.metrics import CONTENT_TYPE, Metrics
from calora.serving.gateway.queue import Work, Workers
from calora.serving.gateway.replies import (
    ChatCompletion,
    Completion,
    ErrorBody,
    Health,
    ModelCard,
    ModelList,
    Reloaded,
)
from calora.serving.gateway.settings import Settings
from calora.serving.gateway.wire import ChatRequest, CompletionRequest
from calora.serving.menu import Way

_ERRORS: dict[int | str, dict[str, Any]] = {"4XX": {"model": ErrorBody}, "5XX": {"model": ErrorBody}}
_EVENT = {"type": "object", "properties": {"data": {"type": "string"}}, "required": ["data"]}
# As OpenAPI 3.2 has it, and FastAPI for streams of its own; a `schema` is taken for that of each event, or of them all.
_STREAM: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {"itemSchema": _EVENT}}}}
_TEXT: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}


@dataclass
class Gateway:
    """What the routes share.

    Args:
        device: Open; whoever opened it closes it.
        settings: Limits.
        gate: What requests pass first.
        workers: Where answers are computed.
        began: When it was made, in seconds since 1970.
        reloading: Held while the bundle is being loaded again.
    """

    device: Device
    settings: Settings
    gate: Gate
    workers: Workers
    began: int
    reloading: asyncio.Lock

    def models(self) -> dict[str, tuple[str, Way]]:
        """What can be asked for: a composition or task by its name, other ways as `NAME@WAY`."""
        return {name if way == "calibrated" else f"{name}@{way}": (name, way) for name, way in self.device.offers}

    def look_up(self, model: str) -> tuple[str, Way]:
        """The name and the way of a model.

        Raises:
            Refusal: There is no such model.
        """
        found = self.models().get(model)
        if found:
            return found
        left_out = model.partition("@")[0] in self.device.left_out
        reason = "its calibration is damaged or stale" if left_out else "the bundle does not have it"
        raise Refusal(
            404, f"there is no model {model!r}: {reason}; /v1/models lists all", code="model_not_found", param="model"
        )

    def card(self, model: str) -> ModelCard:
        """A model's entry in the list."""
        return ModelCard(id=model, created=self.began)

    async def answer(self, request: Request, asked: ChatRequest | CompletionRequest, form: Form) -> Response:
        """Answer a request, whole or as a stream.

        Raises:
            Refusal: It cannot be answered.
        """
        name, way = self.look_up(asked.model)
        request.state.model = asked.model
        self._check_text(asked.text, "messages" if isinstance(asked, ChatRequest) else "prompt")
        pieces = self.device.stream(name, asked.text, way, max_tokens=asked.tokens, sampling=asked.sampling)
        until = request.state.until
        letter = Letter(form, asked.model, asked.with_usage)
        work = self.workers.start(ended(pieces, asked.stop or ()))
        with ExitStack() as at_end:
            at_end.callback(self._end, work, asked.model)
            if not asked.stream:
                return JSONResponse(letter.whole(*await awaited(request, collected(work), until)))
            first = await awaited(request, work.next(), until)
            made = events(letter, work, first, until, request.scope["state"])
            return Events(made, until + self.settings.reading, at_end.pop_all().close)

    def _check_text(self, text: str, param: str) -> None:
        if not text.strip():
            raise Refusal(400, "the text is empty; give a dialogue or a sentence", code="empty_text", param=param)
        try:
            text.encode()
        except UnicodeEncodeError as error:
            message = f"the text has half a character at {error.start}; send both halves of a surrogate pair, or none"
            raise Refusal(400, message, code="invalid_value", param=param) from error
        if len(text) > self.settings.text:
            message = f"the text has {len(text)} characters, {self.settings.text} may be; send a shorter one"
            raise Refusal(400, message, code="context_length_exceeded", param=param)

    def _end(self, work: Work, model: str) -> None:
        work.stop()
        if work.latest:
            self.gate.metrics.tokens(model, work.latest.prompt_tokens, work.latest.tokens)


def make_app(device: Device, settings: Settings | None = None) -> FastAPI:
    """The gateway of a device as an ASGI application; its `state.gateway` is the `Gateway`.

    Args:
        device: Open, and longer so than the application runs.
        settings: Limits, and the key.
    """
    settings = settings or Settings()
    gate = Gate(settings, Metrics())
    workers = Workers(device.slots, settings.queue)
    gateway = Gateway(device, settings, gate, workers, int(time.time()), asyncio.Lock())

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        workers.close()

    # FastAPI's own pages of documentation load scripts from elsewhere; /openapi.json is there.
    app = FastAPI(
        title="calora",
        version=calora.__version__,
        lifespan=lifespan,
        responses=_ERRORS,
        docs_url=None,
        redoc_url=None,
    )
    app.state.gateway = gateway
    app.add_middleware(Guarded, gate=gate)
    app.include_router(_routes)
    app.include_router(playground.routes)
    add_handlers(app)
    return app


_routes = APIRouter()


@_routes.get("/healthz")
async def health() -> Health:
    """Whether the gateway takes requests."""
    return Health()


@_routes.get("/metrics", responses=_TEXT, response_model=None)
async def metrics(request: Request) -> Response:
    """Counters in Prometheus' text format."""
    gateway = _gateway(request)
    gauges = {
        "calora_queue_length": ("Requests that wait for a slot.", gateway.workers.waiting),
        "calora_in_flight": ("Other requests under way, the waiting ones included.", gateway.gate.inside - 1),
    }
    return Response(gateway.gate.metrics.text(gauges), media_type=CONTENT_TYPE)


@_routes.get("/v1/models")
async def models(request: Request) -> ModelList:
    """All compositions and tasks of the bundle, in every way that they can be answered."""
    gateway = _gateway(request)
    return ModelList(data=[gateway.card(model) for model in gateway.models()])


@_routes.get("/v1/models/{model:path}")
async def model(request: Request, model: str) -> ModelCard:
    """One of them."""
    _gateway(request).look_up(model)
    return _gateway(request).card(model)


@_routes.post("/v1/chat/completions", responses=_STREAM, response_model=ChatCompletion)
async def chat(request: Request, asked: ChatRequest) -> Response:
    """Apply a composition to the last user message."""
    return await _gateway(request).answer(request, asked, ChatForm())


@_routes.post("/v1/completions", responses=_STREAM, response_model=Completion)
async def completions(request: Request, asked: CompletionRequest) -> Response:
    """Apply a composition to the prompt."""
    return await _gateway(request).answer(request, asked, CompletionForm())


@_routes.post("/v1/bundle/reload")
async def reload(request: Request) -> Reloaded:
    """Take up a changed bundle; requests under way are answered by the old one."""
    gateway = _gateway(request)
    operator_only(gateway.settings, request)
    if gateway.reloading.locked():
        raise Refusal(409, "the bundle is being reloaded already; wait for that", code="reloading")
    async with gateway.reloading:
        try:
            await asyncio.to_thread(gateway.device.reload)
        except CaloraError as error:
            message = f"the bundle cannot be loaded, the old one stays: {message_of(error)}"
            raise Refusal(409, message, code="bundle_damaged") from error
    return Reloaded(models=list(gateway.models()), left_out=gateway.device.left_out)


def _gateway(request: Request) -> Gateway:
    return cast(Gateway, request.app.state.gateway)
