"""An answer from its first piece to its last, whole or streamed, for as long as somebody waits for it."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from calora.serving.engine import Piece
from calora.serving.gateway.errors import GONE, Refusal, refusal_of
from calora.serving.gateway.forms import Letter, event
from calora.serving.gateway.queue import Work

logger = logging.getLogger(__name__)
T = TypeVar("T")


async def awaited(request: Request, result: Coroutine[Any, Any, T], until: float) -> T:
    """A result, as long as the client is there and the time not over.

    Args:
        request: Whose body has been read.
        result: Cancelled when the client goes.
        until: By the clock of the event loop.

    Raises:
        Refusal: The client has gone, or the time is over.
    """

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    task, watch = asyncio.create_task(result), asyncio.create_task(gone())
    try:
        async with asyncio.timeout_at(until):
            await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Refusal(GONE, "the client has gone", code="gone")
        return task.result()
    except TimeoutError as error:
        raise refusal_of(error) from error
    finally:
        task.cancel()
        watch.cancel()


async def collected(work: Work) -> tuple[str, Piece]:
    """The whole text, and the last piece.

    Raises:
        Refusal: The device failed.
    """
    texts = []
    while True:
        piece = await work.next()
        texts.append(piece.text)
        if piece.end is not None:
            return "".join(texts), piece


async def events(letter: Letter, work: Work, first: Piece, until: float, state: dict[str, Any]) -> AsyncGenerator[str]:
    """Server-sent events of an answer; an error is the last of them.

    Args:
        letter: How to write it.
        work: The answer.
        first: Its first piece, taken before the response began so that an early error has a status of its own.
        until: When it has to be there.
        state: Of the request; `ended` tells how the stream ended.
    """
    state["ended"] = GONE
    yield letter.event("", first=True)
    piece = first
    try:
        while True:
            if piece.text:
                yield letter.event(piece.text)
            if piece.end is not None:
                break
            async with asyncio.timeout_at(until):
                piece = await work.next()
    except (Refusal, TimeoutError) as error:
        refusal = refusal_of(error)
        state["ended"] = refusal.status_code
        yield event(refusal.body)
        return
    yield letter.event("", end=piece.end)
    if letter.with_usage:
        yield letter.usage_event(piece)
    yield "data: [DONE]\n\n"
    state["ended"] = 200


class Events(StreamingResponse):
    """A stream that ends when it must, however slowly it is read.

    Args:
        made: The events.
        until: When the last of them has to be read.
        after: Called when the stream has ended, in whichever way.
    """

    def __init__(self, made: AsyncGenerator[str], until: float, after: Callable[[], None]) -> None:
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(made, media_type="text/event-stream", headers=headers)
        self._made, self._until, self._after = made, until, after

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        try:
            async with asyncio.timeout_at(self._until):
                await super().__call__(scope, receive, send)
        except TimeoutError:
            logger.warning("a client read too slowly; its stream was cut")
        finally:
            self._after()
            await self._made.aclose()
