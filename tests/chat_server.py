"""A chat server of this machine for tests."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

Answer = tuple[int, str]


@dataclass
class Server:
    """A chat server on this machine that answers as a test says.

    Attributes:
        url: Up to /v1.
        respond: From a request's prompt and its number from 0 to a status and a body.
        requests: What came, in order.
        keys: The Authorization header of each.
        most_at_once: How many were being answered at a time.
    """

    url: str = ""
    respond: Callable[[str, int], Answer] = lambda prompt, number: (200, said("Yes"))
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    most_at_once: int = 0
    now: int = 0
    lock: Any = field(default_factory=threading.Lock)


def said(text: str | None) -> str:
    """The body of an answer in OpenAI's format."""
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]})


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "CALORA_JUDGE_KEY"):
        monkeypatch.delenv(variable, raising=False)
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if not body:  # the client was cancelled between header and body
                self.close_connection = True
                return
            request = json.loads(body)
            with state.lock:
                number = len(state.requests)
                state.requests.append(request | {"path": self.path})
                state.keys.append(self.headers["Authorization"])
                state.now += 1
                state.most_at_once = max(state.most_at_once, state.now)
            status, answer = state.respond(request["messages"][0]["content"], number)
            with state.lock:
                state.now -= 1
            try:
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer.encode())))
                self.end_headers()
                self.wfile.write(answer.encode())
            except OSError:
                self.close_connection = True  # the client gave up waiting

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = False

    with Quiet(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        state.url = f"http://127.0.0.1:{http.server_port}/v1"
        yield state
        http.shutdown()
        thread.join()
