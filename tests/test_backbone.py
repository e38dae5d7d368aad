import os
import re
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from calora.adapter import Adapter
from calora.approaches.wording import prompt_of
from calora.backbone import Backbone
from calora.errors import CaloraError
from calora.tasks import Composition, Prompt
from tests.conftest import KINDS_OF_MODULE, SIZES, make_tokenizer, random_adapter


def saved(config: Any, folder: Path) -> Path:
    """A folder with a random model of this config and a tokenizer."""
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def load(path: object) -> Backbone:
    import torch

    return Backbone.load(str(path), torch.float32)


@pytest.fixture
def copied(llama: Backbone, tmp_path: Path) -> Path:
    """A copy of the tiny Llama's folder, to be damaged."""
    return shutil.copytree(llama.name, tmp_path / "copied")


def test_targets_are_the_seven_modules_of_every_layer(backbone: Backbone) -> None:
    found = {name.split(".layers.")[1] for name in backbone.targets}
    parents = {
        kind: "mlp" if kind in ("gate_proj", "up_proj", "down_proj") else "self_attn" for kind in KINDS_OF_MODULE
    }
    assert found == {f"{layer}.{parents[kind]}.{kind}" for layer in (0, 1) for kind in KINDS_OF_MODULE}
    for name, shape in backbone.targets.items():
        assert tuple(backbone.model.get_submodule(name).weight.shape) == shape


def test_a_backbone_is_frozen_and_evaluates(backbone: Backbone) -> None:
    assert not backbone.model.training
    assert not any(parameter.requires_grad for parameter in backbone.model.parameters())
    assert backbone.context == 256


def test_a_folder_is_known_by_the_digest_of_its_weights(llama: Backbone, copied: Path) -> None:
    assert load(copied).sha256 == llama.sha256
    tensors = copied / "model.safetensors"
    content = bytearray(tensors.read_bytes())
    content[-1] ^= 1
    tensors.write_bytes(content)
    assert load(copied).sha256 != llama.sha256


def small_config(name: str) -> Any:
    import transformers

    extra = {"n_embd": 32, "n_layer": 1, "n_head": 2} if name == "GPT2Config" else SIZES
    return getattr(transformers, name)(
        **extra, vocab_size=len(make_tokenizer()), pad_token_id=0, bos_token_id=1, eos_token_id=2
    )


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("Phi3Config", "model.layers.0.self_attn.qkv_proj"),
        ("GPTNeoXConfig", "gpt_neox.layers.0.attention.query_key_value"),
        ("GPT2Config", "transformer.h.0.attn.c_attn"),
    ],
)
def test_fused_projections_are_refused_by_name(tmp_path: Path, name: str, module: str) -> None:
    backbone = load(saved(small_config(name), tmp_path / name))
    with pytest.raises(CaloraError, match=f"{re.escape(module)} fuses several projections"):
        _ = backbone.targets


def test_an_adapter_of_another_backbone_is_refused_by_name(backbones: dict[str, Backbone]) -> None:
    llama, gemma = backbones["llama"], backbones["gemma3"]
    with pytest.raises(CaloraError, match=re.escape("summary (trained on tiny): model.layers.0.self_attn.q_proj is")):
        gemma.check_adapter(random_adapter(llama, name="summary"))
    stranger = random_adapter({"encoder.block.0.q": (32, 32)}, name="es")
    with pytest.raises(CaloraError, match=re.escape("es (trained on tiny) has an update for encoder.block.0.q")):
        llama.check_adapter(stranger)
    with pytest.raises(CaloraError, match="the adapter has an update for encoder"):
        llama.check_adapter(Adapter(stranger.modules))


def test_other_weights_of_one_architecture_are_a_warning(llama: Backbone) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        llama.check_adapter(random_adapter(llama, name="es"))
        llama.check_adapter(random_adapter(llama))
    with pytest.warns(UserWarning, match=r"es was trained on other weights of this architecture \(trained on tiny\)"):
        llama.check_adapter(random_adapter(llama.targets, name="es"))


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99])
def test_truncated_weights_are_refused_by_name(copied: Path, share: float) -> None:
    tensors = copied / "model.safetensors"
    tensors.write_bytes(tensors.read_bytes()[: int(share * tensors.stat().st_size)])
    with pytest.raises(CaloraError, match=f"{copied} cannot be loaded: "):
        load(copied)


@pytest.mark.parametrize("change", ["drop", "shape"])
def test_weights_that_are_not_all_there_are_refused_by_name(copied: Path, change: str) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(copied / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    if change == "drop":
        del tensors[name]
    else:
        tensors[name] = tensors[name][:-1].contiguous()
    save_file(tensors, copied / "model.safetensors", {"format": "pt"})
    with pytest.raises(CaloraError, match=f"{copied} cannot be loaded: .*{name}"):
        load(copied)


class Hostile:
    """Makes a folder in whatever process unpickles it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_runs_something_is_refused_and_does_not_run(copied: Path, tmp_path: Path, zipped: bool) -> None:
    import torch

    (copied / "model.safetensors").unlink()
    weights = {"model.norm.weight": Hostile(tmp_path / "mark")}
    torch.save(weights, copied / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    with pytest.raises(CaloraError, match=f"{copied} cannot be loaded"):
        load(copied)
    assert not (tmp_path / "mark").exists()
    torch.load(copied / "pytorch_model.bin", weights_only=False)
    assert (tmp_path / "mark").exists(), "a loader that is not restricted runs it"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("config.json", "cannot be loaded"),
        ("tokenizer.json", "cannot be loaded"),
        ("model.safetensors", "holds no safetensors file"),
    ],
)
def test_a_folder_that_lacks_a_file_is_refused_by_name(copied: Path, name: str, message: str) -> None:
    (copied / name).unlink()
    with pytest.raises(CaloraError, match=f"{copied} {message}"):
        load(copied)


def test_a_damaged_config_is_refused_by_name(copied: Path) -> None:
    (copied / "config.json").write_text('{"model_type": "llama", ')
    with pytest.raises(CaloraError, match=f"{copied} cannot be loaded"):
        load(copied)


@pytest.mark.parametrize("name", ["gemma3-270", "nobody/nothing-1b", "not/a/hub/name", "no such folder"])
def test_an_unknown_name_is_told_the_embedded_ones(name: str) -> None:
    with pytest.raises(CaloraError, match=f"backbone '{name}' is no embedded name, no file or folder") as error:
        load(name)
    assert error.value.hint == "embedded names: gemma3-270m, smollm2-135m"


def test_a_missing_gguf_file_is_named(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(CaloraError, match=f"{tmp_path / 'none.gguf'} does not exist"):
        load(tmp_path / "none.gguf")
    assert not cache.exists()


@pytest.mark.parametrize("content", [b"", b"GGUF", b"not a gguf file, but long enough to look like one" * 9])
def test_a_damaged_gguf_file_is_named_and_leaves_nothing(cache: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.gguf").write_bytes(content)
    with pytest.raises(CaloraError, match=f"{tmp_path / 'bad.gguf'} cannot be loaded: "):
        load(tmp_path / "bad.gguf")
    assert [path for path in cache.glob("*") if path.suffix != ".lock"] == []


# The lines of Qwen3's and of Llama 3.2's own templates that a variable and the clock decide on.
QWEN3 = """{%- for message in messages %}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor %}{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}"""
LLAMA3 = """{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{{- "Today Date: " + date_string + "\\n\\n" }}
{%- for message in messages %}{{ message.content }}{% endfor %}<|eot_id|>"""
SMOLLM3 = """{%- set today = strftime_now("%d %B %Y") -%}
{{- "Today Date: " ~ today + "\\n\\n" }}
{%- for message in messages %}{{ message.content }}{% endfor %}<|eot_id|>"""
PLAIN = "{% for message in messages %}<s>{{ message.content }}{% endfor %}</s>model:"


@pytest.mark.parametrize(
    ("template", "before", "after"),
    [
        (QWEN3, "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"),
        (LLAMA3, "Today Date: 26 Jul 2024\n\n", "<|eot_id|>"),
        (SMOLLM3, "Today Date: 26 Jul 2024\n\n", "<|eot_id|>"),
        (PLAIN, "<s>", "</s>model:"),
    ],
)
@pytest.mark.parametrize("wording", ["standard", "behind"])
def test_a_chat_template_is_asked_without_thinking_and_the_same_every_day(
    llama: Backbone, template: str, before: str, after: str, wording: Any
) -> None:
    tokenizer: Any = make_tokenizer()
    tokenizer.chat_template = template
    prompt = prompt_of(replace(llama, tokenizer=tokenizer), Composition.parse("summary"), wording)
    asked = "Summarize the dialogue."
    expected = (f"{asked}\n\n", "") if wording == "standard" else ("", f"\n\n{asked}\n\nSummary:")
    assert prompt == Prompt(before + expected[0], expected[1] + after, "")


def test_a_vision_tower_is_not_adapted(llama: Backbone) -> None:
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    text = dict(hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1)
    seeing = dict(
        hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=14, patch_size=7
    )
    config = Gemma3Config(
        text_config=text | {"head_dim": 4, "vocab_size": 300}, vision_config=seeing, mm_tokens_per_image=1
    )
    both = replace(llama, model=Gemma3ForConditionalGeneration(config))
    assert len(both.targets) == 7
    assert all("language_model" in name for name in both.targets)
