"""Keys, limits, queues and clients that go away, over a device whose pace the test decides."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx2
import openai
import pytest

from calora.serving import Device
from calora.serving.gateway import Settings
from calora.serving.gateway.app import Gateway
from calora.serving.gateway.errors import Refusal
from tests.serving.gateways import PATIENCE, TEXT, Paced, chat, client_of, http_of, serving, until, watched_streams

CHAT = "/v1/chat/completions"


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as pool:
        yield pool


def sample(http: httpx2.Client, name: str) -> float:
    """A metric's value; 0 if it is not there."""
    found = [line.rpartition(" ")[2] for line in http.get("/metrics").text.splitlines() if line.startswith(name + " ")]
    return float(found[0]) if found else 0.0


def hang_up(address: str, body: dict[str, Any], when: Callable[[], Any]) -> None:
    """Ask, wait for something, and close the connection."""
    with http_of(address) as http:
        request = http.build_request("POST", CHAT, json=body)
        head = "".join(f"{key}: {value}\r\n" for key, value in request.headers.items())
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=PATIENCE) as line:
            line.sendall(f"POST {CHAT} HTTP/1.1\r\n{head}\r\n".encode() + request.content)
            until(when)


def test_a_key_guards_all_but_the_health(open_device: Device) -> None:
    with serving(open_device, Settings(api_key="secret-é")) as (address, _), http_of(address) as http:
        keys = [None, "", "Bearer", "Bearer wrong", "Bearer secret", "Basic secret", "Bearer secret-ée"]
        for path in ("/v1/models", "/v1/models/es", "/v1/nowhere", "/metrics"):
            for key in keys:
                response = http.get(path, headers={} if key is None else {"Authorization": key.encode()})
                assert response.status_code == 401, (path, key)
                assert response.json()["error"]["code"] == "invalid_api_key"
        assert http.post(CHAT, content=b"{").status_code == 401
        assert http.post("/v1/bundle/reload").status_code == 401
        assert http.get("/healthz").status_code == 200
        assert http.get("/v1/models", headers={"Authorization": "Bearer secret-é".encode()}).status_code == 200
    with serving(open_device, Settings(api_key="secret")) as (address, _):
        with client_of(address, "wrong") as client, pytest.raises(openai.AuthenticationError):
            client.models.list()
        with client_of(address, "secret") as client:
            assert client.models.list().data


def test_a_body_too_large_is_refused_while_it_is_read(open_device: Device) -> None:
    with serving(open_device, Settings(body=10_000)) as (address, _), http_of(address) as http:
        said = http.post(CHAT, json=chat("x" * 20_000))

        def endless() -> Iterator[bytes]:
            yield b'{"model": "es", "prompt": "'
            for _ in range(7):
                yield b"x" * 10_000

        chunked = http.post("/v1/completions", content=endless(), headers={"Content-Type": "application/json"})
        for response in (said, chunked):
            assert response.status_code == 413
            assert response.json()["error"]["code"] == "body_too_large"
        assert http.post(CHAT, json=chat(TEXT, max_tokens=1)).status_code == 200


def test_a_body_that_does_not_come_is_given_up() -> None:
    with serving(Paced(), Settings(seconds=0.2)) as (address, _):
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=PATIENCE) as line:
            line.sendall(f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{{".encode())
            assert line.recv(1000).startswith(b"HTTP/1.1 408")


def test_a_body_and_its_answer_have_one_time_together(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = []

    async def refused(request: Any, result: Any, end: float) -> None:
        result.close()
        ends.append(end)
        raise Refusal(504, "over")

    monkeypatch.setattr("calora.serving.gateway.app.awaited", refused)
    with serving(Paced(), Settings(seconds=PATIENCE)) as (address, gateway):
        host, port = address.removeprefix("http://").split(":")
        body = json.dumps(chat("text")).encode()
        with socket.create_connection((host, int(port)), timeout=PATIENCE) as line:
            head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            line.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:1])
            until(lambda: gateway.gate.inside)
            headers_were_there = time.monotonic()  # the event loop's clock
            line.sendall(body[1:])
            assert line.recv(1000).startswith(b"HTTP/1.1 504")
    assert ends[0] <= headers_were_there + PATIENCE


def test_a_text_too_long_is_refused(open_device: Device) -> None:
    with serving(open_device, Settings(text=10)) as (address, _), client_of(address) as client:
        with pytest.raises(openai.BadRequestError) as refused:
            client.completions.create(model="es", prompt="x" * 11)
        assert refused.value.code == "context_length_exceeded"
        assert client.completions.create(model="es", prompt="x" * 10, max_tokens=1).choices


def asked(pool: ThreadPoolExecutor, http: httpx2.Client, text: str, **fields: Any) -> "Future[httpx2.Response]":
    return pool.submit(http.post, CHAT, json=chat(text, **fields))


def test_a_full_queue_is_told_and_the_queued_are_answered_in_turn(pool: ThreadPoolExecutor) -> None:
    device = Paced(pieces=1)
    with serving(device, Settings(queue=2)) as (address, gateway), http_of(address) as http:
        answers = []
        for number in range(3):
            answers.append(asked(pool, http, f"text {number}"))
            until(lambda n=number: len(device.begun) == 1 and gateway.workers.waiting == n)  # type: ignore[misc]
        assert sample(http, "calora_queue_length") == 2
        refused = http.post(CHAT, json=chat("text 3"))
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "1"
        assert refused.json()["error"] | {"message": ""} == {
            "message": "",
            "type": "rate_limit_error",
            "param": None,
            "code": "queue_full",
        }
        with client_of(address) as client, pytest.raises(openai.RateLimitError):
            client.completions.create(model="summary", prompt="text 4")
        device.let(3)
        assert [answer.result().status_code for answer in answers] == [200] * 3
        assert device.begun == ["text 0", "text 1", "text 2"]


def test_too_many_requests_at_all_are_refused(pool: ThreadPoolExecutor) -> None:
    device = Paced(pieces=1)
    with serving(device, Settings(open=1)) as (address, gateway), http_of(address) as http:
        first = asked(pool, http, "first")
        until(lambda: device.begun)
        assert http.get("/v1/models").status_code == 429
        device.let(1)
        assert first.result().status_code == 200
        until(lambda: gateway.gate.inside == 0)
        assert http.get("/v1/models").status_code == 200


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_stops_the_computing(pool: ThreadPoolExecutor, stream: bool) -> None:
    device = Paced(pieces=9)
    with serving(device) as (address, gateway), http_of(address) as http:
        device.let(2)
        hang_up(address, chat("gone", stream=stream), lambda: device.allowed._value == 0 and device.begun)
        until(lambda: gateway.gate.inside == 0)
        device.let(1)
        until(lambda: device.closed == ["gone"])
        device.let(9)
        assert http.post(CHAT, json=chat("next")).status_code == 200
        assert sample(http, 'calora_requests_total{model="summary",status="499"}') == 1


def test_a_client_that_goes_while_it_waits_leaves_the_queue(pool: ThreadPoolExecutor) -> None:
    device = Paced(pieces=1)
    with serving(device, Settings(queue=1)) as (address, gateway), http_of(address) as http:
        first = asked(pool, http, "first")
        until(lambda: device.begun)
        hang_up(address, chat("gone"), lambda: gateway.workers.waiting == 1)
        until(lambda: gateway.workers.waiting == 0)
        second = asked(pool, http, "second")
        until(lambda: gateway.workers.waiting == 1)
        device.let(2)
        assert (first.result().status_code, second.result().status_code) == (200, 200)
        assert device.begun == ["first", "second"]


def test_a_request_that_takes_too_long_is_given_up(pool: ThreadPoolExecutor) -> None:
    device = Paced(pieces=3)
    with serving(device, Settings(seconds=0.5)) as (address, _), http_of(address) as http:
        for stream in (False, True):
            response = http.post(CHAT, json=chat("slow", stream=stream))
            assert response.status_code == 504
            assert response.json()["error"]["code"] == "timeout"
            device.let(1)  # the thread sees that nobody waits
        until(lambda: device.closed == ["slow", "slow"] or len(device.begun) < 2)
        with client_of(address) as client, pytest.raises(openai.InternalServerError):
            client.completions.create(model="summary", prompt="slow")
        device.let(1)
        assert sample(http, 'calora_requests_total{model="summary",status="504"}') == 3


def test_a_stream_that_takes_too_long_ends_with_an_error() -> None:
    device = Paced(pieces=10_000)
    with (
        serving(device, Settings(seconds=2)) as (address, gateway),
        client_of(address) as client,
        http_of(address) as http,
    ):
        device.let(1)
        with pytest.raises(openai.APIError, match="too long"):
            list(client.chat.completions.create(**chat("slow"), stream=True))

        def broken_off() -> bool:
            device.let(1)  # the thread looks after each piece, and may have looked just before the stream was given up
            # Neither has it, where a loaded machine had not begun in time.
            return not gateway.workers._works and device.closed == device.begun

        until(broken_off)
        assert sample(http, 'calora_requests_total{model="summary",status="504"}') == 1


def test_a_reader_that_stops_holds_no_slot_and_is_cut() -> None:
    device = Paced(pieces=40, bulk="x" * 1_000_000)
    settings = Settings(seconds=PATIENCE, reading=-PATIENCE + 3)
    with serving(device, settings) as (address, gateway), http_of(address) as http:
        host, port = address.removeprefix("http://").split(":")
        body = httpx2.Request("POST", address, json=chat("bulk", stream=True)).content
        with socket.create_connection((host, int(port)), timeout=PATIENCE) as line:
            head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            line.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            device.let(40)
            until(lambda: device.begun and not gateway.workers._works)  # all computed, and nothing read
            device.pieces = 1
            device.let(1)
            assert http.post(CHAT, json=chat("next")).status_code == 200
            until(lambda: gateway.gate.inside == 0)
        assert sample(http, 'calora_requests_total{model="summary",status="499"}') == 1


def test_a_line_of_a_stream_holds_whatever_a_model_says() -> None:
    device = Paced(pieces=1, bulk="a\u2028b\x85c\x0bd\U0001f600")
    with serving(device) as (address, _), http_of(address) as http:
        device.let(1)
        with http.stream("POST", CHAT, json=chat("text", stream=True)) as response:
            lines = [line.removeprefix("data: ") for line in response.iter_lines() if line]
    assert lines.pop() == "[DONE]"
    assert "".join(json.loads(line)["choices"][0]["delta"].get("content", "") for line in lines) == device.bulk


def test_a_device_that_fails_is_a_server_error() -> None:
    class Broken(Paced):
        def stream(self, name: str, text: str, way: str, **options: Any) -> Any:
            yield from ()
            raise RuntimeError("a secret of the house")

    with serving(Broken()) as (address, _), http_of(address) as http:
        response = http.post(CHAT, json=chat("text"))
        assert response.status_code == 500
        assert "secret" not in response.text
        assert response.json()["error"]["type"] == "server_error"


def test_a_real_device_stops_when_its_client_goes(open_device: Device) -> None:
    with serving(open_device) as (address, gateway), http_of(address) as http:
        with watched_streams(pause=0.05) as (begun, ended):
            for number in range(1, 4):
                body = chat(TEXT, model="summary+es", max_tokens=150, stream=True)
                hang_up(address, body, lambda n=number: len(begun) == n)  # type: ignore[misc]
                until(lambda: not gateway.workers._works)
                assert ended == begun
        assert http.post(CHAT, json=chat(TEXT, max_tokens=2)).status_code == 200


def test_many_clients_get_their_own_answers(open_device: Device, pool: ThreadPoolExecutor) -> None:
    names = ["summary+es", "reply+es", "reply+casual", "summary+casual", "summary", "es"] * 3
    with serving(open_device, Settings(queue=len(names))) as (address, _), http_of(address) as http:
        answers = [asked(pool, http, TEXT, model=name, max_tokens=10) for name in names]
        found = [answer.result().json()["choices"][0]["message"]["content"] for answer in answers]
    assert found == [open_device.run(name, TEXT, max_tokens=10).text for name in names]


def test_metrics_count_requests_tokens_and_seconds(open_device: Device) -> None:
    with serving(open_device) as (address, _), http_of(address) as http:
        usage = http.post(CHAT, json=chat(TEXT, model="es", max_tokens=5)).json()["usage"]
        http.post(CHAT, json=chat(TEXT, model="nothing"))
        http.post(CHAT, json={"model": "es"})
        assert sample(http, 'calora_requests_total{model="es",status="200"}') == 1
        assert sample(http, 'calora_requests_total{model="",status="404"}') == 1
        assert sample(http, 'calora_requests_total{model="",status="400"}') == 1
        assert sample(http, 'calora_tokens_total{model="es",kind="prompt"}') == usage["prompt_tokens"]
        assert sample(http, 'calora_tokens_total{model="es",kind="completion"}') == usage["completion_tokens"]
        assert sample(http, "calora_request_seconds_count") == 3
        assert sample(http, "calora_in_flight") == 0


def test_while_it_stops_nothing_new_is_taken(pool: ThreadPoolExecutor) -> None:
    device = Paced(pieces=1)
    with serving(device) as (address, gateway), http_of(address) as http:
        first = asked(pool, http, "first")
        until(lambda: device.begun)
        gateway.gate.stopping = True
        for path in ("/v1/models", "/healthz"):
            assert http.get(path).status_code == 503
        assert http.post(CHAT, json=chat("second")).json()["error"]["code"] == "stopping"
        device.let(1)
        assert first.result().status_code == 200


def test_the_gateway_is_the_apps(open_device: Device) -> None:
    with serving(open_device) as (_, gateway):
        assert isinstance(gateway, Gateway)
        assert gateway.device is open_device
