"""A device that answers in milliseconds, for the gateway's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from calora.backbone import Backbone
from calora.serving import Device, write_bundle
from tests.export.conftest import pairs  # noqa: F401
from tests.serving.bundles import Made, make_parts


@pytest.fixture(scope="module")
def parts(pairs: dict[str, tuple[Backbone, Path]], tmp_path_factory: pytest.TempPathFactory) -> Made:  # noqa: F811
    """Adapters and calibrations of the tiny Llama."""
    backbone, model = pairs["llama"]
    return make_parts(backbone, model, tmp_path_factory.mktemp("parts"))


def make_bundle(parts: Made, folder: Path) -> Path:
    """A bundle of all parts."""
    adapters, calibrations = list(parts.adapters.values()), list(parts.calibrations.values())
    write_bundle(folder, str(parts.model), adapters, calibrations, dtype="float32")
    return folder


@pytest.fixture
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a device makes of a bundle is no other test's."""
    monkeypatch.setenv("CALORA_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def bundle(parts: Made, tmp_path: Path) -> Path:
    """A bundle of all parts that a test may change."""
    return make_bundle(parts, tmp_path / "bundle")


@pytest.fixture(scope="module")
def open_device(parts: Made, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    """A device that the tests of a module share."""
    folder = make_bundle(parts, tmp_path_factory.mktemp("bundles") / "bundle")
    with Device(folder, parts.model, compare=True, context=256, slots=2, threads=1) as device:
        yield device
