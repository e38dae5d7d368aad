"""Backbones whose weights stay packed in training: `NAME:4bit`, `NAME:8bit`, `FILE.gguf:packed`.

They are read, and never changed; what is learnt is kept in float32, as beside plain weights.
"""

import hashlib
from typing import TYPE_CHECKING, Any

from calora.errors import CaloraError, install_hint
from calora.processes import local_rank

if TYPE_CHECKING:
    import torch

PACKINGS = {
    "4bit": "bitsandbytes' NF4 (Dettmers et al., 2023)",
    "8bit": "bitsandbytes' LLM.int8 (Dettmers et al., 2022)",
    "packed": "the blocks of a GGUF file, as transformers 5 multiplies with them",
}


def split_packing(name: str) -> tuple[str, str | None]:
    """A backbone's own name, and how its weights are to stay packed; None if they are not."""
    plain, _, packing = name.rpartition(":")
    return (plain, packing) if plain and packing in PACKINGS else (name, None)


def packed_sha256(sha256: str, packing: str | None) -> str:
    """What names a backbone's content: other values are another backbone."""
    return sha256 if packing is None else hashlib.sha256(f"{sha256} {packing}".encode()).hexdigest()


def loading_options(packing: str | None, gguf: bool, dtype: "torch.dtype") -> dict[str, Any]:
    """What transformers is told to load a packed model.

    Args:
        packing: One of `PACKINGS`, or None.
        gguf: Whether the weights are a GGUF file's.
        dtype: That is computed in.

    Raises:
        CaloraError: The packing is for other files, or what it needs is not installed.
    """
    import torch

    if packing is None:
        return {}
    if packing == "packed":
        return {"quantization_config": _gguf_config(gguf)}
    _check_bitsandbytes()
    from transformers import BitsAndBytesConfig

    config: Any = BitsAndBytesConfig
    chosen = (
        config(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)
        if packing == "4bit"
        else config(load_in_8bit=True)
    )
    place = f"cuda:{local_rank()}" if torch.cuda.is_available() else "cpu"
    return {"quantization_config": chosen, "device_map": {"": place}}


def keep_gradients(model: Any) -> None:
    """Keep bitsandbytes from a form of 4-bit weights that some processors read faster, and that passes no gradient."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def _check_bitsandbytes() -> None:
    try:
        import bitsandbytes  # noqa: F401
    except ImportError as error:
        raise CaloraError("weights in 4 or 8 bits need bitsandbytes", install_hint("quantised")) from error


def _gguf_config(gguf: bool) -> Any:
    """Not run: the kernels that it needs come from the hub, which was not at hand."""
    from transformers import GgufConfig
    from transformers.utils.import_utils import is_kernels_available

    if not gguf:
        raise CaloraError("`:packed` is for a GGUF file", "take :4bit or :8bit for other weights")
    if not is_kernels_available():
        # transformers would unpack the weights after all, and say so in a log alone
        raise CaloraError("packed GGUF weights need `kernels`", "pip install kernels; it fetches one from the hub")
    return GgufConfig()
