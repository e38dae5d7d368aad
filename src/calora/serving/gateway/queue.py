"""Requests wait here for a slot of the device, whose interface is synchronous, and are computed in threads.

An answer is a few hundred pieces at most, so a thread never waits for whoever reads it: it puts the pieces down and
takes the next request. What slow readers leave lying is bounded by what the device can compute in the time that a
request has.
"""

import asyncio
import threading
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial

from calora.serving.engine import Piece
from calora.serving.gateway.errors import Refusal, refusal_of


class Work:
    """One answer: computed in a thread, read in the event loop that made it.

    Args:
        pieces: The answer's; closed in whichever way it ends.
    """

    def __init__(self, pieces: Generator[Piece]) -> None:
        self.latest: Piece | None = None
        self.begun = False
        self.future: Future[None] | None = None
        self._pieces = pieces
        self._loop = asyncio.get_running_loop()
        self._made: asyncio.Queue[Piece | BaseException] = asyncio.Queue()
        self._unwanted = threading.Event()

    async def next(self) -> Piece:
        """The next piece; the last one has its `end`.

        Raises:
            Refusal: The device failed.
        """
        found = await self._made.get()
        if isinstance(found, Piece):
            return found
        raise refusal_of(found)

    def stop(self) -> None:
        """Leave the queue, or compute no more; a thread that waits for a piece sees it when the piece has come."""
        self._unwanted.set()
        future = self.future
        if future and future.cancel():
            self._pieces.close()  # no thread will

    def compute(self) -> None:
        """Make the pieces, in a thread."""
        self.begun = True
        try:
            with closing(self._pieces) as pieces:
                while not self._unwanted.is_set() and (piece := next(pieces, None)):
                    self.latest = piece
                    self._put(piece)
        except Exception as error:
            self._put(error)

    def _put(self, made: Piece | BaseException) -> None:
        with suppress(RuntimeError):  # the loop has ended, and its readers with it
            self._loop.call_soon_threadsafe(self._made.put_nowait, made)


class Workers:
    """As many threads as the device has slots, and a queue in front of them.

    Args:
        slots: Of the device.
        queue: The most requests that wait.
    """

    def __init__(self, slots: int, queue: int) -> None:
        self._threads = ThreadPoolExecutor(slots, "calora-answer")
        self._most = slots + queue
        self._works: set[Work] = set()

    @property
    def waiting(self) -> int:
        """Requests that have not begun."""
        return sum(not work.begun for work in tuple(self._works))

    def start(self, pieces: Generator[Piece]) -> Work:
        """Put a request into the queue.

        Raises:
            Refusal: The queue is full.
        """
        if len(self._works) >= self._most:
            pieces.close()
            raise Refusal(
                429,
                f"{self.waiting} requests are waiting, and no more may; try again in a moment",
                code="queue_full",
                headers={"Retry-After": "1"},
            )
        work = Work(pieces)
        self._works.add(work)
        work.future = self._threads.submit(work.compute)
        work.future.add_done_callback(partial(self._done, work))
        return work

    def _done(self, work: Work, future: Future[None]) -> None:
        self._works.discard(work)
        work.future = None  # it keeps this callback, and so the work: a cycle would keep the device's memory

    def close(self) -> None:
        """Stop all."""
        for work in tuple(self._works):
            work.stop()
        self._threads.shutdown(wait=False, cancel_futures=True)
