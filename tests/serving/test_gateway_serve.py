"""`calora serve` as a process of its own: its port, its warnings, and how it stops."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx2
import pytest
import uvicorn

from calora.cli import main
from calora.errors import CaloraError
from calora.serving.gateway import Settings, make_app
from calora.serving.gateway.server import Server, bind, is_open
from tests.serving.bundles import Made, calibration_of
from tests.serving.conftest import make_bundle
from tests.serving.gateways import PATIENCE, TEXT, Paced, chat, http_of, until

LINE = re.compile(r"on (http://\S+)/v1;")


@contextmanager
def process(parts: Made, bundle: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], list[str], str]]:
    """The command, what it says on standard error, and its address."""
    command = [
        sys.executable,
        "-c",
        "from calora.cli import main; main()",
        "serve",
        str(bundle),
        "--backbone",
        str(parts.model),
        "--port",
        "0",
    ]
    environment = {key: value for key, value in os.environ.items() if key != "CALORA_API_KEY"}
    running = subprocess.Popen(
        [*command, "--context", "256", "--threads", "1", *options], stderr=subprocess.PIPE, text=True, env=environment
    )
    said: list[str] = []

    def read() -> None:
        assert running.stderr is not None
        said.extend(running.stderr)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        until(lambda: running.poll() is not None or any(LINE.search(line) for line in said))
        yield running, said, next(found[1] for line in said if (found := LINE.search(line)))
    finally:
        running.kill()
        running.wait()
        reader.join()
        assert running.stderr is not None
        running.stderr.close()


@contextmanager
def stoppable(device: Paced, **limits: float) -> Iterator[tuple[httpx2.Client, Callable[[], object], threading.Thread]]:
    """A client of a running `serve`, what a signal does to it, and its thread."""
    settings = Settings(**limits)  # type: ignore[arg-type]
    app = make_app(device, settings)  # type: ignore[arg-type]
    loops: list[asyncio.AbstractEventLoop] = []
    config = uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1)
    server = Server(config, app.state.gateway, lambda: loops.append(asyncio.get_running_loop()))
    with bind("127.0.0.1", 0) as place:
        thread = threading.Thread(target=lambda: server.run(sockets=[place]))
        thread.start()
        until(lambda: loops)
        signalled = partial(loops[0].call_soon_threadsafe, server.handle_exit, signal.SIGTERM, None)
        with http_of(f"http://127.0.0.1:{place.getsockname()[1]}") as http:
            yield http, signalled, thread
        thread.join()


@pytest.fixture(scope="module")
def bundle(parts: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(parts, tmp_path_factory.mktemp("served") / "bundle")


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_what_is_under_way_end(parts: Made, bundle: Path, sign: signal.Signals) -> None:
    with (
        process(parts, bundle) as (running, said, address),
        ThreadPoolExecutor(4) as pool,
        httpx2.Client(base_url=address, timeout=PATIENCE) as http,
    ):
        assert http.get("/v1/models").status_code == 200
        body = chat(TEXT, model="summary+es", max_tokens=150)
        answers = [pool.submit(http.post, "/v1/chat/completions", json=body) for _ in range(3)]
        until(lambda: "calora_in_flight 3" in http.get("/metrics").text or all(one.done() for one in answers))
        running.send_signal(sign)
        assert [answer.result().status_code for answer in answers] == [200] * 3
        assert running.wait(PATIENCE) == 0
    assert "Traceback" not in "".join(said)
    assert "warning" not in "".join(said)


def test_while_it_stops_what_is_new_is_refused() -> None:
    device = Paced(pieces=1)
    with stoppable(device) as (http, signalled, thread), ThreadPoolExecutor(1) as pool:
        first = pool.submit(http.post, "/v1/chat/completions", json=chat("first"))
        until(lambda: device.begun)
        signalled()
        until(lambda: http.get("/healthz").status_code == 503)
        assert http.post("/v1/chat/completions", json=chat("second")).json()["error"]["code"] == "stopping"
        device.let(1)
        assert first.result().status_code == 200
        thread.join()
    assert device.begun == ["first"]


@pytest.mark.parametrize(("limit", "signals"), [(0.2, 1), (PATIENCE, 2)])
def test_what_does_not_end_is_broken_off(limit: float, signals: int) -> None:
    device = Paced(pieces=2)
    with stoppable(device, stopping=limit) as (http, signalled, thread), ThreadPoolExecutor(1) as pool:
        first = pool.submit(http.post, "/v1/chat/completions", json=chat("first"))
        until(lambda: device.begun)
        for _ in range(signals):
            signalled()
        thread.join()
        assert isinstance(first.exception(), httpx2.TransportError) or first.result().status_code == 500
        device.let(2)


def test_open_without_a_key_is_warned_of_and_damage_is_told(parts: Made, tmp_path: Path) -> None:
    folder = make_bundle(parts, tmp_path / "bundle")
    (calibration_of(folder, "summary+es") / "calibration.safetensors").write_bytes(b"")
    with process(parts, folder, "--host", "0.0.0.0") as (running, said, _):
        running.send_signal(signal.SIGTERM)
        assert running.wait(PATIENCE) == 0
    text = "".join(said)
    assert "warning: 0.0.0.0 is open to other machines" in text
    assert "warning: summary+es is left out" in text


def test_a_key_on_the_command_line_is_asked_for(parts: Made, bundle: Path) -> None:
    with process(parts, bundle, "--host", "0.0.0.0", "--api-key", "secret") as (_, said, address):
        address = address.replace("0.0.0.0", "127.0.0.1")
        assert httpx2.get(f"{address}/v1/models", timeout=PATIENCE).status_code == 401
        assert (
            httpx2.get(f"{address}/v1/models", headers={"Authorization": "Bearer secret"}, timeout=PATIENCE).status_code
            == 200
        )
    assert "warning" not in "".join(said)


def test_a_bundle_that_is_none_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["calora", "serve", str(tmp_path / "nowhere"), "--port", "0"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "bundle.json is missing" in capsys.readouterr().err.replace("\n", "")


def test_a_port_that_is_taken_is_told() -> None:
    with bind("127.0.0.1", 0) as place:
        assert not is_open(place)
        with pytest.raises(CaloraError, match="cannot listen"):
            bind("127.0.0.1", place.getsockname()[1])


@pytest.mark.parametrize("host", ["no such host", "192.0.2.1", "x" * 300])
def test_places_that_are_none_are_told(host: str) -> None:
    with pytest.raises(CaloraError):
        bind(host, 0)


def test_all_addresses_are_open_ones() -> None:
    with bind("0.0.0.0", 0) as place:
        assert is_open(place)
    if socket.has_ipv6:
        with bind("::1", 0) as place:
            assert not is_open(place)
