"""Against a recorded interface: what vLLM documents, with answers that say what was asked."""

import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from calora.adapter import read_adapter
from calora.backbone import Backbone
from calora.errors import CaloraError
from calora.generation import Pass
from calora.merging import ties
from calora.tasks import Composition
from calora.vllm_generation import VllmGenerator
from tests.conftest import random_adapter


class Recorded:
    """Stands for `vllm.LLM`; keeps what it was started and asked with."""

    started: dict[str, Any]
    asked: list[tuple[list[Any], Any, Any]]

    def __init__(self, **options: Any) -> None:
        Recorded.started, Recorded.asked = options, []

    def generate(self, prompts: list[Any], params: Any, *, lora_request: Any, use_tqdm: bool) -> list[Any]:
        Recorded.asked.append((prompts, params, lora_request))
        return [
            SimpleNamespace(
                outputs=[
                    SimpleNamespace(text=f"\n answer {number}\nand more", token_ids=[5, 6, 7], finish_reason="stop")
                ]
            )
            for number, _ in enumerate(prompts)
        ]


@pytest.fixture
def generator(llama: Backbone, monkeypatch: pytest.MonkeyPatch) -> VllmGenerator:
    vllm, lora, request = ModuleType("vllm"), ModuleType("vllm.lora"), ModuleType("vllm.lora.request")
    vllm.LLM, vllm.SamplingParams = Recorded, lambda **options: options  # type: ignore[attr-defined]
    request.LoRARequest = lambda name, number, path: SimpleNamespace(name=name, id=number, path=path)  # type: ignore[attr-defined]
    for name, module in (("vllm", vllm), ("vllm.lora", lora), ("vllm.lora.request", request)):
        monkeypatch.setitem(sys.modules, name, module)
    return VllmGenerator(llama, rank=33)


def test_passes_are_asked_one_after_the_other_with_their_adapters(generator: VllmGenerator, llama: Backbone) -> None:
    adapter, prompt = random_adapter(llama, 1, rank=3), llama.prompt(Composition.parse("summary"))
    answers = generator.answer_all([Pass(None, prompt), Pass(adapter, prompt)], ["Ann: Hi.", "Bob: Ho."], max_tokens=8)
    assert [answer.text for answer in answers] == ["answer 0", "answer 1"]
    assert answers[0].tokens == 6
    assert Recorded.started["max_lora_rank"] == 64
    (first, params, none), (second, _, request) = Recorded.asked
    assert params == {"temperature": 0.0, "max_tokens": 8}
    assert none is None
    texts = [llama.tokenizer.decode(one["prompt_token_ids"]) for one in (first[0], second[0])]
    assert "Ann: Hi." in texts[0] and "answer 0" in texts[1]
    written = read_adapter(Path(request.path))
    assert written.rank == 8
    for module, pair in adapter.modules.items():
        np.testing.assert_allclose(written.modules[module].update(), pair.update(), rtol=0.02, atol=0.02)  # in bfloat16
    assert (request.name, request.id) == (Path(request.path).name, 1)


def test_an_adapter_is_written_once_and_another_gets_another_number(generator: VllmGenerator, llama: Backbone) -> None:
    prompt = llama.prompt(Composition.parse("summary"))
    for seed in (1, 2, 1):
        generator.answer_all([Pass(random_adapter(llama, seed), prompt)], ["Ann: Hi."], max_tokens=8)
    assert [request.id for _, _, request in Recorded.asked] == [1, 2, 1]


def test_what_vllm_cannot_take_is_refused(generator: VllmGenerator, llama: Backbone) -> None:
    prompt = llama.prompt(Composition.parse("summary"))
    dense = ties([random_adapter(llama, seed) for seed in (1, 2)])
    with pytest.raises(CaloraError, match="vLLM takes adapters alone"):
        generator.answer_all([Pass(dense, prompt)], ["Ann: Hi."], max_tokens=8)
    with pytest.raises(CaloraError, match="rank 65, vLLM was started for 64"):
        generator.answer_all([Pass(random_adapter(llama, 1, rank=65), prompt)], ["Ann: Hi."], max_tokens=8)


@pytest.mark.parametrize("name", ["smollm2-135m", "owner/name:4bit", "model.gguf:packed"])
def test_a_backbone_that_vllm_cannot_load_is_refused_by_name(llama: Backbone, name: str) -> None:
    with pytest.raises(CaloraError, match=f"vLLM cannot load {name}"):
        VllmGenerator(replace(llama, name=name))


def test_a_revision_is_asked_for_as_one(generator: VllmGenerator, llama: Backbone, tmp_path: Path) -> None:
    assert (Recorded.started["model"], Recorded.started["revision"]) == (llama.name, None)
    VllmGenerator(replace(llama, name="owner/name@v1"))
    assert (Recorded.started["model"], Recorded.started["revision"]) == ("owner/name", "v1")
    (folder := tmp_path / "mine@home").mkdir()
    VllmGenerator(replace(llama, name=str(folder)))
    assert (Recorded.started["model"], Recorded.started["revision"]) == (str(folder), None)


def test_without_vllm_it_says_so(llama: Backbone) -> None:
    with pytest.raises(CaloraError, match="vLLM is not installed"):
        VllmGenerator(llama)


def test_an_answer_without_room_is_truncated(
    generator: VllmGenerator, llama: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(self: Any, prompts: list[Any], *given: Any, **more: Any) -> list[Any]:
        return [SimpleNamespace(outputs=[SimpleNamespace(text="Ann", token_ids=[40, 41], finish_reason="length")])]

    monkeypatch.setattr(Recorded, "generate", cut)
    (answer,) = generator.answer_all(
        [Pass(None, llama.prompt(Composition.parse("summary")))], ["Ann: Hi."], max_tokens=2
    )
    assert answer.truncated
