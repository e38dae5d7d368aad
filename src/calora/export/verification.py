"""Verification: an exported adapter in the runtime that will use it, against our own forward pass.

The reference computes in float32 with the values that stand in the file, and the runtime with the backbone's weights
unpacked to float32, so that what is compared is the same function. What remains is the order of sums, and in
llama.cpp the rounding of activations: of what goes into an adapter's product, and around each GELU. How much the
latter does is measured in our own forward pass. What storing the values cost is told apart, as the distance between
the file's values and the original's.
"""

from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from rich import box
from rich.table import Table
from rich.text import Text

from calora.adapter import Adapter
from calora.errors import CaloraError
from calora.export.manifest import Manifest, changed_files, manifest_file, read_manifest
from calora.export.probes import gelu_in_half, mean_kl, reference_logprobs
from calora.export.runtimes import Trial, try_in_llama, try_in_mlx, try_in_peft
from calora.packing import split_packing
from calora.storage import Array

# The largest difference of a log-probability that the order of sums explains, in float32.
TOLERANCE = 1e-3
# A change that is so large is no noise.
_CLEAR = 10 * TOLERANCE
# A mean divergence that is called little; chosen, not measured against answers.
STORAGE_LIMIT = 0.01


class Check(BaseModel):
    """One thing that was looked at.

    Args:
        name: What should hold.
        held: Whether it did.
        found: What was seen.
        expected: What would be right.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    held: bool
    found: str
    expected: str


class Verification(BaseModel):
    """What `verify_export` found.

    Args:
        file: That was verified.
        runtime: That ran it.
        checks: In order.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str
    runtime: str
    checks: tuple[Check, ...]

    @property
    def held(self) -> bool:
        """Whether every check did."""
        return all(check.held for check in self.checks)


def verify_export(file: Path, backbone: str | None = None, against: Adapter | None = None) -> Verification:
    """Load an exported adapter in its runtime and compare; with its manifest, where that is there, as well.

    Args:
        file: A LoRA file for llama.cpp, or a folder for PEFT or MLX-LM.
        backbone: An embedded name, a GGUF file, a Hugging Face folder or a hub id, of whose weights the plain ones are
            taken; llama.cpp needs one of the first two. The manifest's if None.
        against: The adapter that was exported; without it, what storing the values cost is not told.

    Raises:
        CaloraError: The file is missing or damaged, has a tensor without a place in the backbone or of another shape,
            or is of a format that cannot be verified; or nothing says which backbone.
    """
    run = _runtime_of(file)
    manifest = read_manifest(file) if manifest_file(file).exists() else None
    name = backbone or (manifest.backbone if manifest else None)
    if name is None:
        raise CaloraError(f"{file} has no manifest beside it that says its backbone", "name it with --backbone")
    trial = run(file, split_packing(name)[0])
    on = trial.on
    reference = reference_logprobs(trial.backbone, trial.values, on.ids, on.start)
    bare = reference_logprobs(trial.backbone, None, on.ids, on.start)
    positions = len(on.tops)
    distance, changed = on.distance(reference), on.distance(bare)
    gelu = _gelu_rounding(trial, reference)
    tolerance = TOLERANCE + trial.rounding * changed + gelu
    agreed = on.agreement(reference, 2 * tolerance)
    checks = [] if manifest is None else [_unchanged(file, manifest)]
    checks += [
        Check(
            name="scale 0 is the backbone",
            held=trial.off == trial.bare,
            found="the same" if trial.off == trial.bare else "another answer",
            expected="the same log-probabilities to the last bit",
        ),
        Check(
            name="it changes the logits",
            held=changed > _CLEAR,
            found=f"{changed:.3g} at most",
            expected=f"more than {_CLEAR:g} somewhere",
        ),
        Check(
            name="the logits are the reference's",
            held=distance <= tolerance,
            found=f"{distance:.2g} at most",
            expected=f"at most {tolerance:.2g} in any log-probability"
            + (f", {gelu:.2g} of it for GELU" if gelu else ""),
        ),
        Check(
            name="so are the likeliest tokens",
            held=agreed == positions,
            found=f"{agreed} of {positions}",
            expected="all of them, ties within the tolerance aside",
        ),
    ]
    if against is not None:
        kl = mean_kl(reference_logprobs(trial.backbone, against, on.ids, on.start), reference)
        checks.append(
            Check(
                name="storing it cost little",
                held=kl <= STORAGE_LIMIT,
                found=f"{kl:.2g} nats",
                expected=f"at most {STORAGE_LIMIT:g} nats a position from the original's distribution",
            )
        )
    return Verification(file=str(file), runtime=trial.runtime, checks=tuple(checks))


def _unchanged(file: Path, manifest: Manifest) -> Check:
    changed = changed_files(file, manifest)
    return Check(
        name="it is what was exported",
        held=not changed,
        found=f"another {', '.join(changed)}" if changed else "the same",
        expected="the SHA-256 of its manifest",
    )


def _gelu_rounding(trial: Trial, reference: Array) -> float:
    """Twice what rounding around each GELU does to our own forward pass, if the runtime rounds there.

    Twice, as two that round so differ from each other by as much as each from one that does not: a difference in the
    last bit is enough to fall on the other side of a rounding.
    """
    if not trial.half_gelu:
        return 0.0
    with gelu_in_half(trial.backbone) as count:
        if not count:
            return 0.0
        rounded = reference_logprobs(trial.backbone, trial.values, trial.on.ids, trial.on.start)
    return 2 * trial.on.spread(rounded, reference)


def verification_table(found: Verification) -> Table:
    """The checks, for a terminal."""
    table = Table(title=Text(f"{found.file} in {found.runtime}", "table.title"), box=box.SIMPLE_HEAD, pad_edge=False)
    for head in ("check", "", "found", "expected"):
        table.add_column(head, overflow="fold")
    for check in found.checks:
        table.add_row(check.name, "[green]yes[/]" if check.held else "[bold red]NO[/]", check.found, check.expected)
    return table


def _runtime_of(file: Path) -> Callable[[Path, str], Trial]:
    if file.suffix == ".gguf" and file.is_file():
        return try_in_llama
    if (file / "adapters.safetensors").exists():
        return try_in_mlx
    if (file / "adapter_model.safetensors").exists():
        return try_in_peft
    raise CaloraError(
        f"{file} is no exported adapter",
        "expected a .gguf LoRA file, or a folder with adapter_model.safetensors (PEFT) or adapters.safetensors (MLX)",
    )
