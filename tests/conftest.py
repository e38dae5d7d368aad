"""Tiny backbones of four architectures, made in seconds, and adapters with updates large enough to see."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")

import copy
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from calora.adapter import Adapter, AdapterCard, Factors, adapter_sha256, read_adapter
from calora.backbone import Backbone
from calora.calibration import Calibration, CalibrationCard, fresh_tensors, write_calibration
from calora.merging import Merge

# The same examples in every run and no limit of time, so that nothing fails by chance or for a machine that is busy.
settings.register_profile("calora", derandomize=True, deadline=None, database=None)
settings.load_profile("calora")

ARTS = Path(__file__).parents[1] / "src/calora/data/everyday/arts.jsonl"
ARCHITECTURES = ("llama", "qwen2", "stablelm", "gemma3")
KINDS_OF_MODULE = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
}
TEXT = "Ann: Could you call me about the concert tonight?\nBob: Of course, I will do it after work."


def make_tokenizer() -> Any:
    """A byte-level BPE trained on shipped dialogues; it puts <s> in front, as Llama's does."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer: Any = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer: Any = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(ARTS.read_text(encoding="utf-8").splitlines()[:8], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


def make_config(architecture: str, vocabulary: int) -> Any:
    """A config of two layers, each architecture with what sets it apart."""
    from transformers import Gemma3TextConfig, LlamaConfig, Qwen2Config, StableLmConfig

    sizes = SIZES | {"vocab_size": vocabulary, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    if architecture == "llama":
        return LlamaConfig(**sizes)
    if architecture == "qwen2":
        return Qwen2Config(**(sizes | {"vocab_size": vocabulary + 8}))  # more rows than tokens, as the real one has
    if architecture == "stablelm":
        return StableLmConfig(**sizes)
    layers = ["sliding_attention", "full_attention"]
    return Gemma3TextConfig(**sizes, head_dim=16, query_pre_attn_scalar=16, sliding_window=16, layer_types=layers)


@pytest.fixture(scope="session", autouse=True)
def cache_of_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str | None]:
    """What is converted is converted by this run, and nothing of it is left in the user's cache; where that is."""
    with pytest.MonkeyPatch.context() as patched:
        users = os.environ.get("CALORA_CACHE")
        patched.setenv("CALORA_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield users


@pytest.fixture(autouse=True)
def users_cache(request: pytest.FixtureRequest, cache_of_tests: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real backbone is assembled once for all runs."""
    if "real_backbone" in request.keywords:
        monkeypatch.setenv("CALORA_CACHE", cache_of_tests or "")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of one test's own."""
    monkeypatch.setenv("CALORA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def plain_precision(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny backbones are loaded in float32 on every machine; a real one as the machine has it."""
    if "real_backbone" not in request.keywords:
        import torch

        monkeypatch.setattr("calora.backbone.native_dtype", lambda: torch.float32)


@pytest.fixture(scope="session")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Backbone]:
    """One tiny float32 backbone an architecture, loaded from folders of their names."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    tokenizer = make_tokenizer()
    place = tmp_path_factory.mktemp("backbones")
    for seed, architecture in enumerate(ARCHITECTURES):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(make_config(architecture, len(tokenizer)))
        model.save_pretrained(place / architecture)
        tokenizer.save_pretrained(place / architecture)
    return {architecture: Backbone.load(str(place / architecture), torch.float32) for architecture in ARCHITECTURES}


@pytest.fixture(params=ARCHITECTURES)
def backbone(request: pytest.FixtureRequest, backbones: dict[str, Backbone]) -> Backbone:
    """Each of the four tiny backbones."""
    return backbones[request.param]


@pytest.fixture
def llama(backbones: dict[str, Backbone]) -> Backbone:
    """The tiny Llama."""
    return backbones["llama"]


@pytest.fixture(scope="session")
def rows() -> list[dict[str, Any]]:
    """The shipped arts dialogues."""
    return [json.loads(line) for line in ARTS.read_text(encoding="utf-8").splitlines()]


def random_adapter(
    shapes: Backbone | dict[str, tuple[int, int]], seed: int = 0, rank: int = 3, name: str | None = None
) -> Adapter:
    """An adapter whose updates are about as large as the weights, so that no test passes for want of effect."""
    random = np.random.default_rng(seed)

    def matrix(*shape: int) -> Any:
        return random.normal(0, 0.25, shape).astype(np.float32)

    targets = shapes.targets if isinstance(shapes, Backbone) else shapes
    modules = {module: Factors(matrix(rank, inside), matrix(out, rank)) for module, (out, inside) in targets.items()}
    if name is None:
        return Adapter(modules)
    sha256 = shapes.sha256 if isinstance(shapes, Backbone) else "0" * 64
    return Adapter(modules, AdapterCard(name=name, backbone="tiny", backbone_sha256=sha256))


def write_fresh_calibration(folders: Mapping[str, Path], out: Path, **changes: Any) -> tuple[Adapter, Calibration]:
    """A calibration that changes nothing, of the merge of named adapters, with other values in its card; both."""
    adapters = [read_adapter(folder) for folder in folders.values()]
    origin = adapters[0].card
    assert origin is not None
    card = CalibrationCard(
        kind="column-bias",
        rank=4,
        shared="kind",
        composition="+".join(folders),
        merge=Merge(),
        parents={name: adapter_sha256(folder) for name, folder in folders.items()},
        backbone=origin.backbone,
        backbone_sha256=origin.backbone_sha256,
    ).model_copy(update=changes)
    merged = card.merge(adapters)
    calibration = Calibration(card, fresh_tensors(card, merged))
    write_calibration(calibration, out)
    return merged, calibration


def logits(model: Any, tokenizer: Any, text: str = TEXT) -> Any:
    """Logits of a text as a numpy array."""
    import torch

    with torch.inference_mode():
        return model(**tokenizer(text, return_tensors="pt")).logits.float().numpy()


def peft_logits(backbone: Backbone, folder: Path) -> Any:
    """Logits of PEFT's own model with an adapter's folder."""
    from peft import PeftModel

    model = PeftModel.from_pretrained(copy.deepcopy(backbone.model), str(folder)).eval()
    return logits(model, backbone.tokenizer)


def adapter_logits(backbone: Backbone, adapter: Adapter | None) -> Any:
    """Logits of our own forward pass with an adapter beside the weights."""
    from calora.attach import attached

    with attached(backbone, adapter):
        return logits(backbone.model, backbone.tokenizer)


def assert_same_updates(found: Adapter, expected: Adapter, modules: Sequence[str] | None = None) -> None:
    """Equal modules and equal updates, whatever the factors."""
    assert set(found.modules) == set(expected.modules)
    for module in modules or list(expected.modules):
        np.testing.assert_allclose(
            found.modules[module].update(), expected.modules[module].update(), rtol=1e-5, atol=1e-5
        )


def in_time(function: Callable[[], Any], seconds: float = 60.0) -> Any:
    """What a function gives or raises, from a thread that nobody waits for if it hangs."""
    done: Future[Any] = Future()

    def work() -> None:
        try:
            done.set_result(function())
        except BaseException as error:
            done.set_exception(error)

    Thread(target=work, daemon=True).start()
    return done.result(seconds)


def assert_near(found: Any, expected: Any) -> None:
    """Equal within 1e-5 of the largest value: the order of float32 sums may differ."""
    assert np.abs(found - expected).max() <= 1e-5 * max(1.0, np.abs(expected).max())
