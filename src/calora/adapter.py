"""The one value everything ends as: a low-rank adapter, read from and written to PEFT's own format."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from calora.errors import CaloraError
from calora.linalg import Tall
from calora.storage import Array, read_card, read_tensors, sha256_of, write_tensors, write_text, writing_folder
from calora.tasks import Prompt

_PREFIX = "base_model.model."
_TENSOR = re.compile(r"^(?P<module>.+)\.lora_(?P<half>[AB])\.weight$")
_LAYER = re.compile(r"\.(\d+)\.")


class AdapterCard(BaseModel):
    """What an adapter is, kept in `calora.json` beside PEFT's two files.

    Args:
        name: The task or composition that it is for.
        backbone: Its name.
        backbone_sha256: Its SHA-256.
        prompt: That it was trained with.
        parents: Name to the SHA-256 of the tensors of each adapter that it was made of.
        training: A summary.
        added: How many values were learnt for a composition beside its tasks' adapters; None where that is not known.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    backbone: str
    backbone_sha256: str
    prompt: Prompt | None = None
    parents: dict[str, str] = {}
    training: dict[str, Any] = {}
    added: int | None = None


@dataclass(frozen=True)
class Factors:
    """One module's update `b @ a`, all scales folded in.

    Args:
        a: [rank, in], made float32.
        b: [out, rank], likewise.
    """

    a: Array
    b: Array

    def __post_init__(self) -> None:
        for half in ("a", "b"):
            object.__setattr__(self, half, np.asarray(getattr(self, half), np.float32))

    @property
    def is_zero(self) -> bool:
        """Whether the update is 0 as one of the halves is."""
        return not (self.a.any() and self.b.any())

    @property
    def rank(self) -> int:
        """The number of columns of `b`."""
        return int(self.a.shape[0])

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in) of the update."""
        return int(self.b.shape[0]), int(self.a.shape[1])

    @property
    def sha256(self) -> str:
        """The SHA-256 of both matrices."""
        return hashlib.sha256(self.a.tobytes() + self.b.tobytes()).hexdigest()

    def update(self) -> Array:
        """The update as a matrix [out, in]."""
        return self.b @ self.a

    def balance(self) -> Array:
        """What each row of `a` is to be multiplied by, and its column of `b` divided by, to make them equally long."""
        rows, columns = np.linalg.norm(self.a, axis=1), np.linalg.norm(self.b, axis=0)
        ratio: Array = np.sqrt(np.divide(columns, rows, out=np.ones_like(rows), where=(rows > 0) & (columns > 0)))
        return ratio

    def balanced(self) -> "Factors":
        """The same update with each row of `a` as long as its column of `b`."""
        ratio = self.balance()
        return Factors(self.a * ratio[:, None], self.b / ratio)

    def scaled(self, strength: float) -> "Factors":
        """The update times a number."""
        return Factors(self.a, np.float32(strength) * self.b)

    def padded(self, rank: int) -> "Factors":
        """The same update with zero ranks added up to `rank`."""
        extra = rank - self.rank
        return Factors(np.pad(self.a, ((0, extra), (0, 0))), np.pad(self.b, ((0, 0), (0, extra))))

    def svd(self, rank: int | None = None) -> tuple[Array, Array, Array]:
        """Singular value decomposition of the update without forming it.

        Args:
            rank: How many singular vectors are wanted, the first; all if None.

        Returns:
            u [out, k], singular values [n], vt [k, in]; n at most the least of out, rank and in, k at most that and
            what is wanted. In bases of both factors, so that it is exact; singular values of 0 may be left out.
        """
        even = self.balanced()
        left, right = Tall(even.b), Tall(even.a.T)
        u, s, vt = np.linalg.svd(left.coefficients @ right.coefficients.T, full_matrices=False)
        return left.basis(u[:, :rank]), s.astype(np.float32), right.basis(vt[:rank].T).T

    def norm(self) -> float:
        """Frobenius norm of the update, without forming it."""
        return float(np.sqrt(max(0.0, np.sum((self.b.T @ self.b) * (self.a @ self.a.T)))))


@dataclass(frozen=True)
class Adapter:
    """A pair of factors for each target module of a backbone.

    Args:
        modules: Module name in the backbone, such as `model.layers.0.self_attn.q_proj`, to its factors.
        card: Name, prompt and backbone; None for an adapter that another tool made.
    """

    modules: Mapping[str, Factors]
    card: AdapterCard | None = None

    def __post_init__(self) -> None:
        name = self.card.name if self.card else "adapter"
        if not self.modules:
            raise CaloraError(f"{name} has no modules", "expected lora_A and lora_B for at least one linear module")
        for module, factors in self.modules.items():
            if factors.a.ndim != 2 or factors.b.ndim != 2 or factors.a.shape[0] != factors.b.shape[1]:
                raise CaloraError(
                    f"{name}: {module} has A {factors.a.shape} and B {factors.b.shape}",
                    "expected A [rank, in] and B [out, rank] of one rank",
                )
            if not (np.isfinite(factors.a).all() and np.isfinite(factors.b).all()):
                raise CaloraError(f"{name}: {module} holds NaN or infinite values", "train the adapter again")

    @property
    def rank(self) -> int:
        """The largest rank of any module."""
        return max(factors.rank for factors in self.modules.values())

    @property
    def parameters(self) -> int:
        """The number of values in all factors."""
        return sum(factors.a.size + factors.b.size for factors in self.modules.values())

    def norm(self) -> float:
        """Frobenius norm of all updates together."""
        return float(np.sqrt(sum(factors.norm() ** 2 for factors in self.modules.values())))

    def with_card(self, card: AdapterCard) -> "Adapter":
        """The same updates under another card."""
        return replace(self, card=card)


def fit_for(dtype: str, adapters: Sequence[Adapter]) -> list[Adapter]:
    """The same adapters, fit for a type with the range of float16, which loses what is below 1e-8 or above 65504.

    Rows of `a` and columns of `b` are made equally long in the mean over the adapters, up to a power of two, by which
    nothing is rounded: by the same one in all that have a rank in common, so that a merge of their factors stays what
    it is. Fitted one by one they would have another.

    Args:
        dtype: That the factors will be stored in; `float32` and `bfloat16` bear any lengths.
        adapters: Those that will be merged with each other.
    """
    if dtype in ("float32", "bfloat16"):
        return list(adapters)
    lengths: dict[tuple[str, int], list[Array]] = {}
    for adapter in adapters:
        for module, factors in adapter.modules.items():
            lengths.setdefault((module, factors.rank), []).append(np.log2(factors.balance()))
    ratios = {place: np.exp2(np.round(np.mean(found, axis=0))) for place, found in lengths.items()}

    def fitted(module: str, factors: Factors) -> Factors:
        ratio = ratios[module, factors.rank]
        return Factors(factors.a * ratio[:, None], factors.b / ratio)

    return [
        replace(adapter, modules={module: fitted(module, factors) for module, factors in adapter.modules.items()})
        for adapter in adapters
    ]


def module_kind(module: str) -> str:
    """The kind of a linear module: the last part of its name, such as `q_proj`."""
    return module.rpartition(".")[2]


def layer_of(module: str) -> int | None:
    """The number of the layer that a module is in; None for one outside all layers."""
    match = _LAYER.search(module)
    return int(match[1]) if match else None


# What PEFT's configuration says of an adapter that is B A beside the backbone's own weights, and nothing else.
_PLAIN = {
    "use_dora": False,
    "bias": "none",
    "lora_bias": False,
    "modules_to_save": None,
    "trainable_token_indices": None,
    "target_parameters": None,
    "layer_replication": None,
    "alora_invocation_tokens": None,
    "use_qalora": False,
    "use_bdlora": None,
    "arrow_config": None,
    "kasa_config": None,
    "monteclora_config": None,
}
_STARTS_THAT_MOVE_THE_BACKBONE = ("pissa", "corda", "olora", "loftq", "lora_ga")


def _scales(config: Any, folder: Path) -> tuple[Any, dict[str, Any], float]:
    """PEFT's alpha, its pattern of alphas, and the power of the rank that alpha is divided by."""
    if not isinstance(config, dict):
        raise CaloraError(f"{folder}: adapter_config.json holds no object", "copy or make the adapter again")
    for key, plain in _PLAIN.items():
        if config.get(key, plain) not in (plain, [], None):
            raise CaloraError(
                f"{folder}: adapter_config.json has {key} = {config[key]!r}",
                "calora reads plain LoRA only; an update with more than B and A cannot be merged exactly",
            )
    start = str(config.get("init_lora_weights")).lower()
    if start.startswith(_STARTS_THAT_MOVE_THE_BACKBONE):
        raise CaloraError(
            f"{folder}: adapter_config.json has init_lora_weights = {start!r}, a start that is taken off the backbone",
            "save it with PEFT's path_initial_model_for_weight_conversion, which makes it plain LoRA",
        )
    if config.get("peft_type") != "LORA":
        raise CaloraError(f"{folder}: peft_type is {config.get('peft_type')!r}", "expected a LORA adapter")
    alpha = config.get("lora_alpha")
    if not isinstance(alpha, int | float):
        raise CaloraError(f"{folder}: adapter_config.json has lora_alpha = {alpha!r}", "expected a number")
    return alpha, config.get("alpha_pattern") or {}, 0.5 if config.get("use_rslora") else 1.0


def _matching(pattern: Mapping[str, Any], module: str, default: Any) -> Any:
    """The value of PEFT's rank or alpha pattern for a module (PEFT matches a name's end, or a regex)."""
    for key, value in pattern.items():
        if re.match(rf"(.*\.)?({key})$", module):
            return value
    return default


def read_adapter(folder: str | Path) -> Adapter:
    """Read an adapter from a folder in PEFT's format; scales are folded into B.

    Raises:
        CaloraError: A file is missing or damaged, half of a pair is missing, or it is no plain LoRA.
    """
    folder = Path(folder)
    usual, alphas, power = _scales(_config(folder), folder)
    tensors_file = folder / "adapter_model.safetensors"
    halves: dict[str, dict[str, Array]] = {}
    for key, tensor in read_tensors(tensors_file).items():
        match = _TENSOR.match(key.removeprefix(_PREFIX))
        if match is None:
            raise CaloraError(f"{tensors_file}: unexpected tensor {key}", "expected only lora_A and lora_B weights")
        pair = halves.setdefault(match["module"], {})
        if match["half"] in pair:
            raise CaloraError(f"{tensors_file}: {match['module']} has two lora_{match['half']}", "leave one of them")
        pair[match["half"]] = tensor
    modules = {}
    for module, pair in sorted(halves.items(), key=lambda item: _natural(item[0])):
        if set(pair) != {"A", "B"}:
            missing = "B" if "A" in pair else "A"
            raise CaloraError(f"{tensors_file}: {module} has no lora_{missing}", "copy or make the adapter again")
        if not pair["A"].size or not pair["B"].size:
            raise CaloraError(f"{tensors_file}: {module} has an empty A or B", "leave the module out, or train it")
        alpha = float(_matching(alphas, module, usual))
        scale = np.float32(alpha / pair["A"].shape[0] ** power)
        modules[module] = Factors(pair["A"], pair["B"] if scale == 1 else pair["B"] * scale)
    card_file = folder / "calora.json"
    return Adapter(modules, read_card(card_file, AdapterCard) if card_file.exists() else None)


def _config(folder: Path) -> Any:
    file = folder / "adapter_config.json"
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CaloraError(
            f"{file} is missing", "expected a folder with adapter_config.json and adapter_model.safetensors"
        ) from error
    except ValueError as error:
        raise CaloraError(f"{file} is not JSON: {error}", "copy or make the adapter again") from error


def base_model_of(folder: str | Path) -> str | None:
    """What an adapter's configuration says that it was trained on.

    Raises:
        CaloraError: It is missing or damaged.
    """
    base = _config(Path(folder)).get("base_model_name_or_path")
    return str(base) if base else None


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in name.split(".")]


def write_adapter(adapter: Adapter, folder: str | Path, dtype: str = "bfloat16", base: str | None = None) -> None:
    """Write an adapter in PEFT's format: one uniform rank (zero-padded), alpha = rank, so that its scale is 1.

    Args:
        adapter: What to write.
        folder: Replaced whole if it is there.
        dtype: `float32`, `float16` or `bfloat16`.
        base: What PEFT is told that it is for; the card's backbone if None.

    Raises:
        CaloraError: The place cannot be written, or an update is too large for the dtype.
    """
    rank = adapter.rank
    config: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base or (adapter.card.backbone if adapter.card else None),
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "target_modules": _targets(list(adapter.modules)),
        "bias": "none",
        "use_rslora": False,
        "use_dora": False,
        "fan_in_fan_out": False,
        "modules_to_save": None,
        "rank_pattern": {},
        "alpha_pattern": {},
        "inference_mode": True,
    }
    tensors: dict[str, Array] = {}
    for module, factors in fit_for(dtype, [adapter])[0].modules.items():
        padded = factors.padded(rank)
        tensors[f"{_PREFIX}{module}.lora_A.weight"] = padded.a
        tensors[f"{_PREFIX}{module}.lora_B.weight"] = padded.b
    with writing_folder(Path(folder)) as temporary:
        write_text(temporary / "adapter_config.json", json.dumps(config, indent=2) + "\n")
        write_tensors(temporary / "adapter_model.safetensors", tensors, dtype)
        if adapter.card is not None:
            write_text(temporary / "calora.json", adapter.card.model_dump_json(indent=2) + "\n")


def _targets(modules: list[str]) -> list[str]:
    """Module kinds where every layer up to the last one here has every kind, else full names: PEFT would add the rest.

    How many layers the backbone has is not known here: on one with more, PEFT adds an update of 0 to each, and warns.
    """
    kinds = sorted({module_kind(module) for module in modules})
    layers = {layer for module in modules if (layer := layer_of(module)) is not None}
    whole = len(modules) == len(kinds) * len(layers) and layers == set(range(len(layers)))
    return kinds if whole else modules


def adapter_sha256(folder: str | Path) -> str:
    """The SHA-256 of an adapter's tensors file: how calibrations name their parents.

    Raises:
        CaloraError: There is none.
    """
    file = Path(folder) / "adapter_model.safetensors"
    if not file.is_file():
        raise CaloraError(f"{file} is missing", "expected the folder of an adapter")
    return sha256_of(file)
