"""The language model as a judge, asked of a real llama.cpp server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from calora.corpus import load_everyday, make_examples
from calora.embedded import embedded_gguf
from calora.errors import CaloraError
from calora.judges import Endpoint, judge_with_llm
from calora.tasks import Composition

COMPOSITION = Composition.parse("summary+casual")


@pytest.fixture
def llama_server() -> Iterator[str]:
    """The address of a server of SmolLM2; it is no judge to be trusted, but it speaks the protocol."""
    import xllamacpp

    params: Any = xllamacpp.CommonParams()
    params.model.path = str(embedded_gguf("smollm2-135m", show=False))
    params.port = 0
    params.n_ctx = 1024
    params.n_parallel = 1
    params.cpuparams.n_threads = 1
    server: Any = xllamacpp.Server(params)
    yield f"{server.listening_address}/v1"
    del server


@pytest.mark.real_backbone
def test_a_real_server_answers_and_is_asked_once(llama_server: str, tmp_path: Path) -> None:
    examples = make_examples(load_everyday("test"), COMPOSITION, seed=0)[:3]
    answers = [examples[0].target, "", examples[2].text]
    endpoint = Endpoint(url=llama_server, model="smollm2", concurrency=2, timeout=120.0, retries=0)
    first = judge_with_llm(answers, examples, COMPOSITION, endpoint, cache=tmp_path)
    assert set(first.outcomes) <= {"yes", "no", "unparsable"}
    files = sorted(tmp_path.glob("*.json"))
    assert len(files) == 3
    unasked = endpoint.model_copy(update={"max_requests": 0})
    assert judge_with_llm(answers, examples, COMPOSITION, unasked, cache=tmp_path).outcomes == first.outcomes


def test_where_nothing_listens_is_told(tmp_path: Path) -> None:
    examples = make_examples(load_everyday("test"), COMPOSITION, seed=0)[:1]
    nobody = Endpoint(url="http://127.0.0.1:9/v1", model="none", retries=0, timeout=2.0)
    with pytest.raises(CaloraError, match=r"nothing can be reached at http://127\.0\.0\.1:9/v1"):
        judge_with_llm(["x"], examples, COMPOSITION, nobody, cache=tmp_path)
