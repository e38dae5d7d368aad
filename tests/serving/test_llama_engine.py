from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from calora.adapter import read_adapter
from calora.serving import Sampling
from calora.serving.engine import EngineError
from calora.serving.llama import LlamaServer, Request
from calora.serving.llama_engine import LlamaEngine
from calora.tasks import Prompt
from tests.export.conftest import pairs  # noqa: F401
from tests.serving.bundles import Made
from tests.serving.gateways import TEXT, watched_streams


@pytest.fixture(scope="module")
def engine(parts: Made) -> Iterator[LlamaEngine]:
    with closing(LlamaEngine(parts.model, {}, context=256, threads=1)) as opened:
        yield opened


@pytest.fixture
def prompt(parts: Made) -> Prompt:
    card = read_adapter(parts.adapters["summary"]).card
    assert card and card.prompt
    return card.prompt


def test_a_closed_stream_ends_the_request(engine: LlamaEngine, prompt: Prompt) -> None:
    with watched_streams() as (begun, ended):
        pieces = engine.generate(prompt, TEXT, {}, 100, Sampling())
        next(pieces)
        pieces.close()
        assert len(ended) == 1
        assert list(engine.generate(prompt, TEXT, {}, 4, Sampling()))
        assert (len(begun), len(ended)) == (2, 1)


def test_an_answer_that_breaks_off_is_told(
    engine: LlamaEngine, prompt: Prompt, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: LlamaServer, request: Request) -> Any:
        yield {"content": "Ann", "tokens_predicted": 1, "stop": False}

    monkeypatch.setattr(LlamaServer, "stream", broken)
    with pytest.raises(EngineError, match="broke the answer off"):
        list(engine.generate(prompt, TEXT, {}, 4, Sampling()))
