"""Load a backbone: a hub id, a folder, a GGUF file, or an embedded one by name."""

import errno
import re
import statistics
import time
import warnings
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calora.adapter import Adapter, AdapterCard, module_kind
from calora.backbone_files import backbone_sha256, folder_sha256, hub_folder
from calora.embedded import EMBEDDED, cache_folder, embedded_gguf
from calora.errors import CaloraError
from calora.merging import DenseUpdate
from calora.packing import keep_gradients, loading_options, packed_sha256, split_packing
from calora.processes import local_rank
from calora.storage import made_once, writing_folder
from calora.tasks import Composition, Prompt

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_DATE = "26 Jul 2024"  # that Llama 3's own template has where there is no clock
_FUSED = re.compile(r"(qkv|query_key_value|gate_up|c_attn|W_pack|in_proj)")


@dataclass(frozen=True)
class Backbone:
    """A frozen language model with its tokenizer.

    Args:
        name: What it was asked for as.
        sha256: Of its GGUF file, or of its safetensors files taken together.
        model: In evaluation mode, no parameter requires a gradient.
        tokenizer: Its tokenizer.
    """

    name: str
    sha256: str
    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"

    @classmethod
    def load(cls, name_or_path: str, dtype: "torch.dtype | None" = None) -> "Backbone":
        """Load a backbone.

        Args:
            name_or_path: `gemma3-270m`, `smollm2-135m`, a `.gguf` file, a folder, or a hub id (`owner/name`, or
                `owner/name@revision`); with `:4bit`, `:8bit` or, for a GGUF file, `:packed` its weights stay packed.
            dtype: `native_dtype()` if None.

        Raises:
            CaloraError: It is not found, damaged, or of a shape calora cannot train.
        """
        _quiet()
        dtype = dtype or native_dtype()
        plain, packing = split_packing(name_or_path)
        path, short = Path(plain), str(dtype).rpartition(".")[2]
        options = loading_options(packing, path.suffix == ".gguf", dtype)
        if plain not in EMBEDDED and path.suffix != ".gguf":
            path = path if path.is_dir() else hub_folder(plain)  # asked for once
            return cls(name_or_path, packed_sha256(folder_sha256(path), packing), *_load(path, dtype, **options))
        own = backbone_sha256(plain)
        if plain in EMBEDDED:
            file = embedded_gguf(plain)
            path = _dequantised(file, dtype, file.parent.parent / f"{plain}-{short}")
        elif packing == "packed":
            options["gguf_file"], path = path.name, path.parent
        else:
            path = _dequantised(path, dtype, cache_folder() / f"gguf-{own[:16]}-{short}")
        return cls(name_or_path, packed_sha256(own, packing), *_load(path, dtype, **options))

    @cached_property
    def targets(self) -> dict[str, tuple[int, int]]:
        """Name and (out, in) of every linear module of the attention and the MLP of every layer of the decoder.

        What a multi-modal model has beside it, a vision tower say, is none.

        Raises:
            CaloraError: The architecture fuses projections, or has no linear layers where they are expected.
        """
        import torch

        found = {}
        decoder = set(self.model.get_decoder().modules())
        for name, module in self.model.named_modules():
            if module not in decoder or not re.search(r"\.\d+\.", name):
                continue
            if _FUSED.search(module_kind(name)):
                raise CaloraError(
                    f"{self.name}: {name} fuses several projections in one matrix",
                    "calora adapts q, k, v, o, gate, up and down separately; take a backbone that keeps them apart",
                )
            if isinstance(module, torch.nn.Linear):
                found[name] = (module.out_features, module.in_features)
        if not found:
            raise CaloraError(
                f"{self.name}: no linear modules in its layers", "expected a decoder of plain linear layers"
            )
        return found

    @cached_property
    def context(self) -> int:
        """The most tokens of prompt and answer together."""
        config = self.model.config.get_text_config()
        return int(getattr(config, "max_position_embeddings", 2048))

    def prompt(self, composition: Composition) -> Prompt:
        """The prompt of a composition: the tokenizer's chat template where it has one, plain text otherwise."""
        tokenizer: Any = self.tokenizer
        if tokenizer.chat_template:
            return Prompt.for_composition(composition, partial(chat_text, tokenizer))
        return Prompt.for_composition(composition, None, self.bos)

    @property
    def bos(self) -> str:
        """The text of the token that a plain prompt begins with; empty where the tokenizer puts none."""
        token = self.tokenizer.bos_token
        begins = list(self.tokenizer("a").input_ids)[:1] == [self.tokenizer.bos_token_id]
        return str(token) if token and begins else ""

    def check_adapter(self, adapter: Adapter | DenseUpdate) -> None:
        """Refuse an adapter whose modules or shapes are not this backbone's; warn where only the SHA differs.

        Raises:
            CaloraError: Names the first module that does not fit.
        """
        name = adapter.card.name if adapter.card else "the adapter"
        origin = f" (trained on {adapter.card.backbone})" if adapter.card else ""
        for module, update in adapter.modules.items():
            if module not in self.targets:
                raise CaloraError(
                    f"{name}{origin} has an update for {module}, which {self.name} does not have",
                    "use the backbone the adapter was trained on",
                )
            if update.shape != self.targets[module]:
                raise CaloraError(
                    f"{name}{origin}: {module} is {update.shape}, in {self.name} it is {self.targets[module]}",
                    "use the backbone the adapter was trained on",
                )
        warn_of_other_weights(adapter.card, self.sha256)


def warn_of_other_weights(card: AdapterCard | None, sha256: str) -> None:
    """Warn where an adapter was trained on another backbone than the one of this SHA-256."""
    if card and card.backbone_sha256 != sha256:
        warnings.warn(
            f"{card.name} was trained on other weights of this architecture (trained on {card.backbone})", stacklevel=3
        )


def chat_text(tokenizer: Any, message: str) -> str:
    """One user's message in a tokenizer's chat template, up to where the answer begins.

    Args:
        tokenizer: One with a template. Variables that it does not know change nothing.
        message: What the user says.
    """
    messages = [{"role": "user", "content": message}]
    # An answer is one line, without thoughts before it, and a prompt the same every day: Llama 3's prints the date.
    variables: dict[str, Any] = {"enable_thinking": False, "date_string": _DATE}
    template = str(tokenizer.get_chat_template())
    if "strftime_now(" in template:  # some ask for today's whatever they are given
        variables["chat_template"] = re.sub(r"strftime_now\([^)]*\)", repr(_DATE), template)
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **variables))


@lru_cache
def native_dtype() -> "torch.dtype":
    """bfloat16 on a GPU, or where this processor multiplies it faster than float32; else float32.

    It is measured, in a tenth of a second: with its instructions for bfloat16 a processor can be twice as fast as in
    float32 (AMX) or half as fast (AVX-512 alone), and no flag tells which for every make.
    """
    import torch

    if torch.cuda.is_available():
        return torch.bfloat16
    short, full = (torch.ones(640, 2048, dtype=dtype) for dtype in (torch.bfloat16, torch.float32))
    rounds = [(_seconds(short), _seconds(full)) for _ in range(6)][1:]
    return torch.bfloat16 if statistics.median(low / high for low, high in rounds) < 1 else torch.float32


def _seconds(weight: "torch.Tensor") -> float:
    """Of one product of 512 rows with a weight."""
    rows = weight.new_ones(512, len(weight))
    begin = time.perf_counter()
    rows @ weight
    return time.perf_counter() - begin


def _quiet() -> None:
    """Keep transformers' own bars and notices out of ours."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def _load(folder: Path, dtype: "torch.dtype", **extra: Any) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    loader: Any = AutoModelForCausalLM
    tokenizer_extra = {"gguf_file": extra["gguf_file"]} if "gguf_file" in extra else {}
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **tokenizer_extra)
        model, found = loader.from_pretrained(
            folder,
            dtype=dtype,
            attn_implementation=_attention(),
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # to be refused below, by name
            **extra,
        )
        absent = sorted({*found["missing_keys"], *(name for name, *_ in found["mismatched_keys"])})
        if absent:
            raise ValueError(f"{len(absent)} tensors are missing or of another shape, the first is {absent[0]}")
    except Exception as error:  # what a damaged file makes its parsers raise is of any kind
        reason = str(error).splitlines()[0] if str(error) else repr(error)
        raise CaloraError(
            f"{folder / extra.get('gguf_file', '')} cannot be loaded: {reason}",
            "expected a whole causal language model with its tokenizer",
        ) from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    # What a model says about sampling and penalties is for other uses: calora's decoding is plain for all.
    model.generation_config = GenerationConfig()
    keep_gradients(model)
    if torch.cuda.is_available() and "device_map" not in extra:
        torch.nn.Module.to(model, f"cuda:{local_rank()}")
    return model.eval().requires_grad_(False), tokenizer


def _attention() -> str:
    """On a CPU, plain matrix products are no slower in training than torch's fused attention at our lengths."""
    import torch

    return "sdpa" if torch.cuda.is_available() else "eager"


def _dequantised(file: Path, dtype: "torch.dtype", folder: Path) -> Path:
    """Convert a GGUF file once to a folder of plain weights, which loads in a fraction of the time."""
    from safetensors import SafetensorError
    from transformers import GgufConfig

    if folder.exists():
        return folder
    with made_once(folder):
        if folder.exists():
            return folder
        model, tokenizer = _load(
            file.parent, dtype, gguf_file=file.name, quantization_config=GgufConfig(dequantize=True)
        )
        with writing_folder(folder) as temporary:
            try:
                model.save_pretrained(temporary)
            except SafetensorError as error:  # its own kind, and no OSError, where the disk is full
                raise OSError(errno.ENOSPC if "os error 28" in str(error) else errno.EIO, str(error)) from error
            tokenizer.save_pretrained(temporary)
    return folder
