from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from calora.serving import Device
from calora.serving.gateway import Settings
from tests.serving.bundles import Made, calibration_of
from tests.serving.conftest import make_bundle
from tests.serving.gateways import http_of, serving


@pytest.fixture(scope="module")
def http(open_device: Device) -> Iterator[httpx2.Client]:
    with serving(open_device) as (address, _), http_of(address) as client:
        yield client


@pytest.mark.parametrize(
    ("path", "kind"), [("/", "text/html"), ("/playground.css", "text/css"), ("/playground.js", "text/javascript")]
)
def test_the_page_is_whole_and_asks_no_one_else(http: httpx2.Client, path: str, kind: str) -> None:
    found = http.get(path)
    assert found.status_code == 200
    assert found.headers["content-type"].startswith(kind)
    assert "default-src 'self'" in found.headers["content-security-policy"]
    assert "http://" not in found.text
    assert "https://" not in found.text


def test_it_is_told_what_can_be_tried(http: httpx2.Client, open_device: Device) -> None:
    found = http.get("/v1/playground").json()
    assert [one["name"] for one in found["compositions"]] == open_device.names
    by_name = {one["name"]: one for one in found["compositions"]}
    assert by_name["summary+es"]["ways"] == ["calibrated", "merge", "multi-step", "backbone"]
    assert by_name["summary+es"]["passes"] == 2
    assert by_name["summary+es"]["parameters"] == open_device.bundle.calibration("summary+es").parameters
    assert by_name["summary"] == {
        "name": "summary",
        "ways": ["calibrated", "backbone"],
        "passes": 1,
        "parameters": 0,
        "mebibytes": 0.0,
    }
    assert [task["name"] for task in found["tasks"]] == ["summary", "reply", "es", "casual"]
    assert len({one["title"].partition(":")[0] for one in found["examples"]}) == len(found["examples"]) > 3


def test_with_a_key_the_page_opens_and_the_rest_asks_for_it(open_device: Device) -> None:
    with serving(open_device, Settings(api_key="open sesame")) as (address, _), http_of(address) as client:
        assert client.get("/").status_code == 200
        assert client.get("/v1/playground").status_code == 401
        answer = client.get("/v1/playground", headers={"Authorization": "Bearer open sesame"})
        assert answer.status_code == 200


def test_a_damaged_composition_is_not_offered(parts: Made, tmp_path: Path) -> None:
    folder = make_bundle(parts, tmp_path / "bundle")
    (calibration_of(folder, "reply+es") / "calibration.safetensors").write_bytes(b"")
    with (
        Device(folder, parts.model, context=256, threads=1) as device,
        serving(device) as (address, _),
        http_of(address) as client,
    ):
        names = [one["name"] for one in client.get("/v1/playground").json()["compositions"]]
        assert "reply+es" not in names
        assert "summary+es" in names
