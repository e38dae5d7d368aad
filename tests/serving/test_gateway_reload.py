"""A bundle that changes while it is served."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from calora.serving import Device
from calora.serving.gateway import Settings
from calora.serving.gateway.app import Gateway
from tests.serving.bundles import Made
from tests.serving.conftest import make_bundle
from tests.serving.gateways import PATIENCE, TEXT, chat, http_of, serving, until

CHAT, RELOAD = "/v1/chat/completions", "/v1/bundle/reload"


@pytest.fixture
def device(parts: Made, tmp_path: Path) -> Iterator[Device]:
    with Device(make_bundle(parts, tmp_path / "bundle"), parts.model, context=256, threads=1) as device:
        yield device


@pytest.fixture
def running(device: Device) -> Iterator[tuple[httpx2.Client, Gateway]]:
    with serving(device) as (address, gateway), http_of(address) as http:
        yield http, gateway


def calibration(device: Device, name: str) -> Path:
    return device.bundle.folder / device.bundle.card.compositions[name].calibration / "calibration.safetensors"


def test_a_damaged_calibration_is_told_and_the_rest_goes_on(
    device: Device, running: tuple[httpx2.Client, Gateway]
) -> None:
    http, _ = running
    file = calibration(device, "summary+es")
    whole = file.read_bytes()
    for damage in (whole[:100], b"", whole[:-2] + b"\xff\xff", b"\xff" * len(whole)):
        file.write_bytes(damage)
        response = http.post(RELOAD)
        assert response.status_code == 200
        assert list(response.json()["left_out"]) == ["summary+es"]
        assert "summary+es" not in response.json()["models"]
        missing = http.post(CHAT, json=chat(TEXT, model="summary+es"))
        assert missing.status_code == 404
        assert "damaged" in missing.json()["error"]["message"]
        assert str(device.bundle.folder) not in missing.text
        assert http.post(CHAT, json=chat(TEXT, model="reply+es", max_tokens=2)).status_code == 200
    file.write_bytes(whole)
    assert http.post(RELOAD).json()["left_out"] == {}
    assert http.post(CHAT, json=chat(TEXT, model="summary+es", max_tokens=2)).status_code == 200


def test_the_page_says_what_is_loaded_whatever_lies_on_the_disk(
    device: Device, running: tuple[httpx2.Client, Gateway]
) -> None:
    http, _ = running
    before = http.get("/v1/playground").json()
    calibration(device, "summary+es").unlink()
    found = http.get("/v1/playground")
    assert (found.status_code, found.json()) == (200, before)


def test_a_damaged_bundle_leaves_the_old_one_in_use(device: Device, running: tuple[httpx2.Client, Gateway]) -> None:
    http, _ = running
    card = device.bundle.folder / "bundle.json"
    for damage in (b"", b"{}", card.read_bytes()[:-20]):
        card.write_bytes(damage)
        response = http.post(RELOAD)
        assert response.status_code == 409
        assert response.json()["error"]["code"] == "bundle_damaged"
        assert http.post(CHAT, json=chat(TEXT, model="summary+es", max_tokens=2)).status_code == 200


def test_no_request_is_lost_by_a_reload(device: Device, running: tuple[httpx2.Client, Gateway]) -> None:
    http, _ = running
    expected = device.run("summary+es", TEXT, max_tokens=40).text
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(http.post, CHAT, json=chat(TEXT, model="summary+es", max_tokens=40)) for _ in range(12)]
        reloads = [http.post(RELOAD).status_code for _ in range(3)]
    assert reloads == [200] * 3
    assert [answer.result().json()["choices"][0]["message"]["content"] for answer in answers] == [expected] * 12


def test_pages_of_elsewhere_may_not_reload(device: Device, running: tuple[httpx2.Client, Gateway]) -> None:
    http, _ = running
    assert http.post(RELOAD, headers={"Origin": "https://elsewhere.example"}).status_code == 403
    assert http.post(RELOAD, headers={"Origin": "null"}).status_code == 403
    assert http.post(RELOAD, headers={"Origin": "http://localhost:8000"}).status_code == 200


def test_other_machines_may_not_reload_without_a_key(device: Device) -> None:
    with serving(device) as (address, _), http_of(address) as http:
        forwarded = {"X-Forwarded-For": "10.1.2.3"}
        assert http.post(RELOAD, headers=forwarded).status_code == 403
    with serving(device, Settings(api_key="secret")) as (address, _), http_of(address) as http:
        assert http.post(RELOAD, headers=forwarded).status_code == 401
        assert http.post(RELOAD, headers={**forwarded, "Authorization": "Bearer secret"}).status_code == 200


def test_one_reload_at_a_time(
    device: Device, running: tuple[httpx2.Client, Gateway], monkeypatch: pytest.MonkeyPatch
) -> None:
    http, gateway = running
    loading = threading.Event()
    monkeypatch.setattr(device, "reload", lambda: loading.wait(PATIENCE))
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(http.post, RELOAD)
        try:
            until(gateway.reloading.locked)
            second = http.post(RELOAD, timeout=10)
        finally:
            loading.set()
        assert first.result().status_code == 200
    assert (second.status_code, second.json()["error"]["code"]) == (409, "reloading")
    assert http.post(RELOAD).status_code == 200
