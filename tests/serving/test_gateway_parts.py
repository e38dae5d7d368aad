"""The gateway's parts that need no server."""

from collections.abc import Generator

from hypothesis import given
from hypothesis import strategies as st

from calora.serving import Piece
from calora.serving.gateway.ending import ended
from calora.serving.gateway.metrics import Metrics


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
