"""The runtimes in which an exported adapter is tried: llama.cpp, PEFT and MLX-LM."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from calora.adapter import Adapter, Factors, read_adapter
from calora.errors import CaloraError
from calora.export.gguf import read_gguf_adapter
from calora.export.layout import read_layout
from calora.export.packed import open_gguf, unpacked_gguf
from calora.export.probes import TOP, Probe
from calora.serving.llama import LlamaServer, Request
from calora.storage import read_tensors

if TYPE_CHECKING:
    from calora.backbone import Backbone

POSITIONS = 200
# What llama.cpp's rounding may do, as a share of the largest change that the adapter makes: it rounds what goes into
# a product to the type of the factor, to 11 bits for float16, for q8_0 to 8 bits of the largest of 32 neighbours,
# twice in each module; and the layers add it up.
ROUNDING = {"F32": 0.0, "F16": 5e-3, "Q8_0": 5e-2}
_TEXT = "Ann: Could you call me about the concert tonight?\nBob: Of course, I will do it after work.\n\n"


@dataclass(frozen=True)
class Trial:
    """What a runtime said.

    Args:
        runtime: Its name.
        backbone: For the reference, in float32.
        values: The adapter as it stands in the file.
        bare: Without the file.
        off: With the file at scale 0.
        on: With the file at scale 1.
        rounding: What the runtime's rounding may do, as a share of the largest change that the adapter makes.
        half_gelu: Whether it takes GELU from a table of float16, as llama.cpp does on a CPU (`GGML_GELU_FP16` in ggml).
    """

    runtime: str
    backbone: "Backbone"
    values: Adapter
    bare: Probe
    off: Probe
    on: Probe
    rounding: float = 0.0
    half_gelu: bool = False


def try_in_llama(file: Path, backbone: str) -> Trial:
    """Let llama.cpp read a text, on the backbone's weights unpacked to float32.

    Raises:
        CaloraError: The backbone is no GGUF file, or the adapter does not fit it.
    """
    import torch

    from calora.backbone import Backbone

    layout = read_layout(backbone)
    if layout.path.is_dir():
        raise CaloraError(
            f"{backbone} is no GGUF file, and llama.cpp loads no other", "name the backbone's with --backbone"
        )
    values = read_gguf_adapter(file, layout)
    kinds = {str(tensor.tensor_type.name) for tensor in open_gguf(file).tensors}
    with tempfile.TemporaryDirectory() as temporary:
        model = Path(temporary) / "model.gguf"
        unpacked_gguf(layout.path, model)

        def ask(server: LlamaServer, scales: dict[str, float]) -> Probe:
            return llama_probe(server, scales, ids, start)

        reference = Backbone.load(backbone, torch.float32)
        ids, start = _text_ids(reference)
        # One token at a time gains little from more threads.
        room: dict[str, Any] = {"context": len(ids) + 8, "threads": 1, "exact": True}
        with LlamaServer(model, **room) as server:
            bare = ask(server, {})
        with LlamaServer(model, {"it": file}, **room) as server:
            off, on = ask(server, {"it": 0.0}), ask(server, {"it": 1.0})
    rounding = max(ROUNDING.get(kind, ROUNDING["Q8_0"]) for kind in kinds)
    return Trial("llama.cpp", reference, values, bare, off, on, rounding, half_gelu=True)


def llama_probe(server: LlamaServer, scales: Mapping[str, float], ids: Sequence[int], start: int) -> Probe:
    """What llama.cpp expects at each position of a text.

    Its server tells the likeliest tokens only of what it generates, and not where a token ends inside a character. So
    it is asked for one token behind each beginning of the text, which it still has in its cache, and that token is
    forced to be a letter; the probabilities are those before forcing.

    Args:
        server: Exact, with room for the text.
        scales: Of its adapters.
        ids: The tokens of the text.
        start: The first position to predict.
    """
    sampling = {"n_probs": TOP, "logit_bias": [[server.tokens("a")[-1], 1000.0]]}
    tops = []
    for end in range(start, len(ids)):
        answer = server.complete(Request(ids[:end], scales, 1, sampling=sampling))
        likeliest = answer["completion_probabilities"][0]["top_logprobs"]
        tops.append({int(one["id"]): float(one["logprob"]) for one in likeliest})
    return Probe(list(ids), start, tops)


def try_in_peft(folder: Path, backbone: str) -> Trial:
    """Read a text with PEFT's own model, in float32.

    Raises:
        CaloraError: The folder is damaged, or does not fit the backbone.
    """
    import torch
    from peft import PeftModel

    from calora.backbone import Backbone

    loaded = Backbone.load(backbone, torch.float32)
    values = read_adapter(folder)
    loaded.check_adapter(values)
    ids, start = _text_ids(loaded)

    def ask(model: Any) -> Probe:
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([ids], device=model.device)).logits[0, start - 1 : -1]
        return Probe.of(ids, start, torch.log_softmax(logits.float(), dim=-1).cpu().numpy())

    bare = ask(loaded.model)
    wrapped: Any = PeftModel.from_pretrained(loaded.model, str(folder)).eval()
    on = ask(wrapped)
    with wrapped.disable_adapter():
        off = ask(wrapped)
    return Trial("PEFT", Backbone.load(backbone, torch.float32), values, bare, off, on)


def try_in_mlx(folder: Path, backbone: str) -> Trial:
    """Read a text with MLX-LM's own model, in float32; what it rounds by itself the reference rounds as well.

    Raises:
        CaloraError: The folder is damaged, or does not fit the backbone; or MLX-LM is not there.
    """
    import torch

    from calora.backbone import Backbone

    try:
        import mlx.core as mx
        from mlx_lm.tuner.utils import load_adapters
        from mlx_lm.utils import load_model
    except ImportError as error:
        raise CaloraError("MLX-LM is not installed", 'pip install "mlx[cpu]" mlx-lm') from error

    loaded = Backbone.load(backbone, torch.float32)
    _round_embedding_scale(loaded)
    tensors = read_tensors(folder / "adapters.safetensors")
    modules = sorted({name.rpartition(".")[0] for name in tensors})
    values = Adapter({name: Factors(tensors[f"{name}.lora_a"].T, tensors[f"{name}.lora_b"].T) for name in modules})
    loaded.check_adapter(values)
    ids, start = _text_ids(loaded)

    def ask(model: Any) -> Probe:
        logits = np.array(model(mx.array([ids])).astype(mx.float32))[0, start - 1 : -1]
        return Probe.of(ids, start, torch.log_softmax(torch.from_numpy(logits), dim=-1).numpy())

    with tempfile.TemporaryDirectory() as temporary:
        loaded.model.save_pretrained(temporary)
        _spread_rope(Path(temporary) / "config.json")
        model: Any = load_model(Path(temporary))[0]
        bare = ask(model)
        model = load_adapters(model, str(folder))
        on = ask(model)
        for _, module in model.named_modules():
            if hasattr(module, "lora_a"):
                module.scale = 0.0
        off = ask(model)
    return Trial("MLX-LM", loaded, values, bare, off, on)


def _round_embedding_scale(backbone: "Backbone") -> None:
    """Round the factor of Gemma's embedding to bfloat16, as MLX-LM does in every precision (25.298 becomes 25.25)."""
    scale: Any = getattr(backbone.model.get_input_embeddings(), "embed_scale", None)
    if scale is not None:
        scale.copy_(scale.bfloat16())


def _spread_rope(file: Path) -> None:
    """Write the rotary embedding's parameters where MLX-LM looks for them; transformers 5 has them in one object."""
    config = json.loads(file.read_text(encoding="utf-8"))
    rope = config.get("rope_parameters") or {}
    plain = {key: value for key, value in rope.items() if key in ("rope_theta", "partial_rotary_factor")}
    file.write_text(json.dumps(plain | config), encoding="utf-8")


def _text_ids(backbone: "Backbone") -> tuple[list[int], int]:
    """A text of as many tokens as are compared, and the first position to predict."""
    tokenizer: Any = backbone.tokenizer
    ids = list(tokenizer(_TEXT).input_ids)
    start = len(ids)
    length = min(start + POSITIONS, backbone.context)
    return (ids * (length // start + 1))[:length], start
