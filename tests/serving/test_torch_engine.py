import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from calora.adapter import Adapter, read_adapter
from calora.errors import CaloraError
from calora.generation import answer_all
from calora.serving import Device, Piece, Sampling, check_bundle, open_bundle, write_bundle
from calora.serving.torch_engine import TorchEngine
from tests.conftest import in_time
from tests.export.conftest import pairs  # noqa: F401
from tests.serving.bundles import Made
from tests.serving.gateways import TEXT
from tests.serving.test_device import TOKENS, passes_of, whole

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.mark.filterwarnings("ignore:.* was trained on other weights:UserWarning")  # the file, not the folder
def test_torch_answers_what_llama_cpp_cannot_load(parts: Made, tmp_path: Path) -> None:
    folder = parts.backbone.name
    write_bundle(
        tmp_path / "b", folder, list(parts.adapters.values()), list(parts.calibrations.values()), dtype="float32"
    )
    assert check_bundle(open_bundle(tmp_path / "b", folder)) == []
    with Device.open(tmp_path / "b", folder, compare=True, context=256) as device:
        for name, way in device.offers:
            if way == "multi-step":
                continue
            reply = device.run(name, TEXT, way, max_tokens=TOKENS)
            expected = answer_all(parts.backbone, passes_of(parts, name, way), [TEXT], max_tokens=TOKENS)[0]
            assert whole(reply.text) == whole(expected.text), (name, way)
            assert (reply.tokens, reply.prompt_tokens) == (expected.tokens, expected.prompt_tokens)
            assert reply.truncated == expected.truncated
        with pytest.raises(CaloraError, match="only takes the likeliest token"):
            device.run("summary", TEXT, sampling=Sampling(temperature=1.0))
        alone = device.run("es", TEXT, max_tokens=TOKENS).text
        pieces = device.stream("summary", TEXT, max_tokens=100)
        next(pieces)
        with ThreadPoolExecutor(1) as pool, closing(pieces):  # a stream that nobody reads holds nobody up
            assert pool.submit(device.run, "es", TEXT, max_tokens=TOKENS).result(60).text == alone


def ask(engine: TorchEngine, parts: Made, tokens: int, **scales: float) -> Iterator[Piece]:
    card = read_adapter(parts.adapters["summary"]).card
    assert card and card.prompt
    return engine.generate(card.prompt, TEXT, scales, tokens, Sampling())


@contextmanager
def at_each_step(engine: TorchEngine, hook: Any) -> Iterator[None]:
    """Have something called behind each forward pass."""
    handle = engine._backbone.model.register_forward_hook(lambda *given: hook())
    try:
        yield
    finally:
        handle.remove()


def test_a_closed_stream_stops_computing(parts: Made) -> None:
    steps: list[int] = []

    def count() -> None:
        steps.append(1)
        time.sleep(0.02)

    engine = TorchEngine(parts.backbone, {}, context=256)
    with at_each_step(engine, count):
        pieces: Any = ask(engine, parts, 100)
        next(pieces)
        pieces.close()
    assert len(steps) < 100


def test_an_error_in_the_computing_thread_comes_to_who_reads(parts: Made) -> None:
    def gone() -> Adapter:
        raise CaloraError("the adapter is gone")

    def fail() -> None:
        raise RuntimeError("the machine burns")

    engine = TorchEngine(parts.backbone, {"es": gone}, context=256)
    with pytest.raises(CaloraError, match="the adapter is gone"):
        in_time(lambda: list(ask(engine, parts, 4, es=1.0)))
    with at_each_step(engine, fail), pytest.raises(RuntimeError, match="the machine burns"):
        in_time(lambda: list(ask(engine, parts, 4)))
    assert in_time(lambda: list(ask(engine, parts, 4))), "the next one is answered"
