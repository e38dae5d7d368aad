"""The gateway's parts that need no server."""

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Generator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calora.serving import Piece
from calora.serving.gateway.ending import ended
from calora.serving.gateway.errors import Refusal
from calora.serving.gateway.metrics import Metrics
from calora.serving.gateway.queue import Workers

PATIENCE = 10.0  # seconds: only a test that fails takes so long


def pieces(texts: list[str]) -> Generator[Piece]:
    for number, text in enumerate(texts, 1):
        yield Piece(text, number, 1, "length" if number == len(texts) else None)


@given(
    st.lists(st.text("ab \n", max_size=4), min_size=1, max_size=8),
    st.lists(st.text("ab \n", min_size=1, max_size=4), max_size=4),
)
def test_a_text_in_pieces_is_cut_as_a_whole(texts: list[str], stops: list[str]) -> None:
    whole = "".join(texts)
    places = [whole.find(stop) for stop in stops if stop in whole]
    expected = whole[: min(places)].rstrip() if places else whole.rstrip()
    found = list(ended(pieces(texts), stops))
    assert "".join(piece.text for piece in found) == expected
    assert [piece.end for piece in found[:-1]] == [None] * (len(found) - 1)
    assert found[-1].end == ("stop" if places else "length")


def test_nothing_is_held_back_without_need() -> None:
    assert [piece.text for piece in ended(pieces(["one ", "two", " ###", "x"]), ["####"])] == [
        "one",
        " two",
        "",
        " ###x",
    ]


def test_a_stop_string_stops_the_computing() -> None:
    closed = []

    def endless() -> Generator[Piece]:
        try:
            while True:
                yield Piece("word ", 1, 1)
        finally:
            closed.append(True)

    assert len(list(ended(endless(), ["dwo", "rd word"]))) == 2
    assert closed


def held(closed: list[str], name: str, until: threading.Event) -> Generator[Piece]:
    """Pieces of what is in use from now on, and waits."""

    def made() -> Generator[Piece]:
        try:
            yield Piece("", 0, 0)
            until.wait(PATIENCE)
            yield Piece("word", 1, 1, "stop")
        finally:
            closed.append(name)

    pieces = made()
    next(pieces)
    return ended(pieces, [])


def test_what_leaves_the_queue_before_it_begins_is_closed() -> None:
    closed: list[str] = []

    async def crowd() -> None:
        free = threading.Event()
        workers = Workers(slots=1, queue=1)
        first = workers.start(held(closed, "first", free))
        waiting = workers.start(held(closed, "waiting", free))
        refused = held(closed, "refused", free)
        with pytest.raises(Refusal):
            workers.start(refused)
        assert closed == ["refused"]
        waiting.stop()
        assert closed == ["refused", "waiting"]
        free.set()
        assert (await first.next()).end == "stop"
        workers.close()

    asyncio.run(crowd())


def test_an_answer_that_is_done_is_forgotten_at_once() -> None:
    async def answered() -> None:
        workers = Workers(slots=1, queue=1)
        free = threading.Event()
        work = workers.start(held([], "only", free))
        free.set()
        assert (await work.next()).end == "stop"
        gone = weakref.ref(work)
        del work
        end = time.monotonic() + PATIENCE
        while gone() is not None:
            assert time.monotonic() < end, "something keeps it"
            await asyncio.sleep(0.01)
        workers.close()

    gc.disable()
    try:
        asyncio.run(answered())
    finally:
        gc.enable()


def test_metrics_are_prometheus_text() -> None:
    metrics = Metrics()
    metrics.request('a"b\\c\n', 200, 0.3)
    metrics.request("", 404, 1000.0)
    metrics.tokens("es", 5, 7)
    lines = metrics.text({"calora_queue_length": ("Waiting.", 3)}).splitlines()
    assert 'calora_requests_total{model="a\\"b\\\\c\\n",status="200"} 1' in lines
    assert 'calora_tokens_total{model="es",kind="completion"} 7' in lines
    assert 'calora_request_seconds_bucket{le="0.25"} 0' in lines
    assert 'calora_request_seconds_bucket{le="0.5"} 1' in lines
    assert 'calora_request_seconds_bucket{le="+Inf"} 2' in lines
    assert "calora_request_seconds_count 2" in lines
    assert "calora_queue_length 3" in lines
