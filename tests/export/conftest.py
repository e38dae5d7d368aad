"""Tiny backbones that both transformers and llama.cpp run."""

from pathlib import Path

import pytest

from calora.adapter import Adapter
from calora.backbone import Backbone
from calora.export.packed import Packing, open_gguf, rewrite_gguf
from tests.conftest import ARCHITECTURES, make_tokenizer, random_adapter
from tests.export.tiny_gguf import tiny_config, write_tiny_gguf


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Backbone, Path]]:
    """Architecture to a float32 backbone and the same one as a GGUF file."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    tokenizer = make_tokenizer()
    place = tmp_path_factory.mktemp("pairs")
    found = {}
    for seed, architecture in enumerate(ARCHITECTURES):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(tiny_config(architecture, len(tokenizer)))
        model.save_pretrained(place / architecture)
        tokenizer.save_pretrained(place / architecture)
        backbone = Backbone.load(str(place / architecture), torch.float32)
        file = place / f"{architecture}.gguf"
        write_tiny_gguf(backbone, architecture, file)
        found[architecture] = backbone, file
    return found


@pytest.fixture(params=ARCHITECTURES)
def pair(request: pytest.FixtureRequest, pairs: dict[str, tuple[Backbone, Path]]) -> tuple[Backbone, Path]:
    """Each of the four tiny backbones with its GGUF file."""
    return pairs[request.param]


@pytest.fixture(scope="session")
def packed(pairs: dict[str, tuple[Backbone, Path]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny Llama with every matrix in blocks of 8 bits."""
    _, file = pairs["llama"]
    target = tmp_path_factory.mktemp("packed") / "llama-q8_0.gguf"
    matrices = [str(tensor.name) for tensor in open_gguf(file).tensors if len(tensor.shape) > 1]
    rewrite_gguf(file, target, dict.fromkeys(matrices, lambda weight: weight), Packing.Q8_0)
    return target


def gentle(target: Backbone | dict[str, tuple[int, int]], rank: int) -> Adapter:
    """An adapter that is felt, and not as large as the weights: there no network bears llama.cpp's rounding."""
    large = random_adapter(target, rank=rank)
    return Adapter({name: part.scaled(0.1) for name, part in large.modules.items()})
