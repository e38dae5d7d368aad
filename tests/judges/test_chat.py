import asyncio
import socket
from pathlib import Path
from threading import Barrier, Event
from typing import Any

import pytest
from pydantic import ValidationError

from calora.errors import CaloraError
from calora.judges.chat import Endpoint, Said, ask_all
from tests.judges.conftest import Server, said


def ask(server: Server, *prompts: str, cache: Path | None = None, **settings: Any) -> list[Said]:
    endpoint = Endpoint(**({"url": server.url, "model": "tiny", "backoff": 0.01, "timeout": 5} | settings))
    return asyncio.run(ask_all(prompts, endpoint, cache))


def outcomes(said: list[Said]) -> list[str]:
    return [one.outcome for one in said]


def test_answers_come_in_the_order_of_the_prompts(server: Server) -> None:
    server.respond = lambda prompt, number: (200, said(prompt.upper()))
    found = ask(server, "a", "b", "a", concurrency=1)
    assert found == [Said("A", "answered"), Said("B", "answered"), Said("A", "answered")]
    assert len(server.requests) == 2
    assert server.requests[0] == {
        "path": "/v1/chat/completions",
        "model": "tiny",
        "messages": [{"role": "user", "content": "a"}],
        "temperature": 0,
        "max_tokens": 16,
    }


def test_a_server_of_this_machine_is_asked_without_a_proxy(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # nothing listens there
    assert ask(server, "a", retries=0) == [Said("Yes", "answered")]


def test_no_more_than_so_many_at_a_time(server: Server) -> None:
    pairs = Barrier(2, timeout=60)  # each is answered when there is another one

    def respond(prompt: str, number: int) -> tuple[int, str]:
        pairs.wait()
        return 200, said("Yes")

    server.respond = respond
    assert outcomes(ask(server, *"abcdef", concurrency=2, timeout=60)) == ["answered"] * 6
    assert server.most_at_once == 2


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(server: Server, status: int) -> None:
    server.respond = lambda prompt, number: (status, "wait") if number < 2 else (200, said("yes"))
    assert ask(server, "a") == [Said("yes", "answered")]
    assert len(server.requests) == 3


def test_retries_end(server: Server, tmp_path: Path) -> None:
    server.respond = lambda prompt, number: (429, "wait")
    assert ask(server, "a", retries=2, cache=tmp_path) == [Said(None, "failed")]
    assert len(server.requests) == 3
    assert list(tmp_path.iterdir()) == []


def test_a_timeout_is_a_failed_try(server: Server) -> None:
    given_up = Event()

    def respond(prompt: str, number: int) -> tuple[int, str]:
        given_up.wait(60)
        return 200, said("Yes")

    server.respond = respond
    try:
        assert ask(server, "a", timeout=0.5, retries=1) == [Said(None, "failed")]
    finally:
        given_up.set()
    assert len(server.requests) == 2


@pytest.mark.parametrize("body", ["<html>", "[]", '{"choices": []}', said(None), '{"choices": [{"message": "yes"}]}'])
def test_what_holds_no_answer_is_malformed_and_not_kept(server: Server, tmp_path: Path, body: str) -> None:
    server.respond = lambda prompt, number: (200, body)
    assert ask(server, "a", cache=tmp_path) == [Said(None, "malformed")]
    assert len(server.requests) == 1
    assert list(tmp_path.iterdir()) == []


def test_what_was_said_is_not_asked_again(server: Server, tmp_path: Path) -> None:
    server.respond = lambda prompt, number: (200, said(f"{prompt} {number}"))
    first = ask(server, "a", "b", concurrency=1, cache=tmp_path / "said")
    assert ask(server, "b", "a", cache=tmp_path / "said") == first[::-1]
    assert len(server.requests) == len(list((tmp_path / "said").iterdir())) == 2
    assert ask(server, "a", cache=tmp_path / "said", model="other")[0].text == "a 2"


def test_the_budget_counts_retries_but_not_the_cache(server: Server, tmp_path: Path) -> None:
    found = ask(server, *"abcd", concurrency=1, max_requests=2, cache=tmp_path)
    assert outcomes(found) == ["answered", "answered", "over budget", "over budget"]
    assert outcomes(ask(server, *"abcd", max_requests=1, cache=tmp_path)).count("over budget") == 1
    assert len(server.requests) == 3
    server.respond = lambda prompt, number: (429, "wait")
    assert outcomes(ask(server, "e", max_requests=2)) == ["over budget"]
    assert len(server.requests) == 5
    assert outcomes(ask(server, "a", "f", max_requests=0, cache=tmp_path)) == ["answered", "over budget"]
    assert len(server.requests) == 5


def test_the_key_comes_from_the_environment_and_goes_into_no_file(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(server, "a")
    monkeypatch.setenv("CALORA_JUDGE_KEY", "opensesame\n")
    ask(server, "b", cache=tmp_path)
    assert server.keys == [None, "Bearer opensesame"]
    assert all("opensesame" not in file.read_text() for file in tmp_path.iterdir())


@pytest.mark.parametrize(("status", "hint"), [(401, "CALORA_JUDGE_KEY"), (404, "'tiny'"), (400, "message")])
def test_a_refusal_ends_the_run(server: Server, status: int, hint: str) -> None:
    server.respond = lambda prompt, number: (status, "model is not here")
    with pytest.raises(CaloraError, match=f"status {status}: model is not here") as caught:
        ask(server, *"abcdefgh", concurrency=2)
    assert hint in str(caught.value.hint)
    assert len(server.requests) <= 4


def test_a_server_that_is_not_there(server: Server) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        with pytest.raises(CaloraError, match="nothing can be reached at"):
            ask(server, "a", url=url, retries=1)


def test_an_address_without_a_scheme_is_refused() -> None:
    with pytest.raises(ValidationError, match="url"):
        Endpoint(url="localhost:8080/v1", model="tiny")


def test_another_server_is_asked_itself(server: Server, tmp_path: Path) -> None:
    server.respond = lambda prompt, number: (200, said(f"{number}"))
    first, other = (ask(server, "a", cache=tmp_path, url=f"{server.url}{path}")[0].text for path in ("", "/other"))
    assert (first, other) == ("0", "1")
