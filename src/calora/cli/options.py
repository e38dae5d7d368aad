"""Options that several commands share, and what they read."""

import random
import shutil
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calora import __version__
from calora.errors import CaloraError
from calora.processes import count_of, is_first, wait_for_all
from calora.tasks import Composition

if TYPE_CHECKING:
    from calora.adapter import Adapter
    from calora.backbone import Backbone
    from calora.corpus import Example
    from calora.training.data import ExamplesOf

BackboneOption = Annotated[
    str,
    typer.Option(
        "--backbone",
        "-b",
        help="gemma3-270m, smollm2-135m, a .gguf file, a folder or a hub id; with :4bit or :8bit behind it packed.",
    ),
]
DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        help='JSON lines of {"text", "target"}, in training a tenth held out; the Everyday corpus if left out.',
    ),
]
SeedOption = Annotated[
    int, typer.Option(help="Of training: order, names, dropout; of a low-rank calibration its initial values, too.")
]
StartOption = Annotated[str, typer.Option(help="factors (the paper's mean of A and B) or product (exact).")]
StrengthsOption = Annotated[
    str | None, typer.Option(help="One number an adapter, such as 1,0.8; the start's own if left out.")
]

_HELD_OUT, _FEW = 0.1, 5


def training_examples(composition: Composition, data: Path | None, seed: int) -> "tuple[ExamplesOf, ExamplesOf]":
    """Training and validation examples: of one's own file (a tenth is held out), or of the Everyday corpus."""
    from calora.corpus import load_everyday, make_examples, read_pairs

    if data is not None:
        examples = read_pairs(data)
        if len(examples) < 2:
            raise CaloraError(f"{data} holds one example", "training needs at least two: a tenth is held out")
        random.Random(seed).shuffle(examples)
        held = max(1, round(_HELD_OUT * len(examples)))
        if held < _FEW:
            warnings.warn(
                f"{held} of {len(examples)} examples {'is' if held == 1 else 'are'} held out to choose the epoch by, "
                "which says little: give more",
                stacklevel=2,
            )
        return (lambda epoch: examples[held:]), (lambda epoch: examples[:held])
    train, validation = load_everyday("train"), load_everyday("validation")
    return (
        lambda epoch: make_examples(train, composition, seed=seed, epoch=epoch),
        lambda epoch: make_examples(validation, composition, seed=seed, epoch=epoch),
    )


def evaluation_examples(composition: Composition, data: Path | None, split: str) -> "list[Example]":
    """Examples to score: of one's own file, or of a split of the Everyday corpus under fixed names.

    As in the benchmark, a record is one example: secondary tasks alone are asked for its first reference.
    """
    from calora.corpus import load_everyday, one_each, read_pairs

    if data is not None:
        return read_pairs(data)
    return one_each(load_everyday(split), composition, seed=0)  # type: ignore[arg-type]


def parse_strengths(text: str | None) -> tuple[float, ...] | None:
    """Read `1,0.8`.

    Raises:
        CaloraError: A part is no number.
    """
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise CaloraError(f"strengths {text!r} are not numbers", "write them as 1,0.8") from error


def parse_parameter(text: str) -> tuple[str, Any]:
    """Read `density=0.5`: a name and a number, true or false, a word, or numbers such as [1, 0.5].

    Raises:
        CaloraError: There is no value, or it is an option's.
    """
    import yaml

    key, sign, value = text.partition("=")
    if not sign:
        raise CaloraError(f"parameter {text!r}", "write it as density=0.5")
    if key in ("adapters", "energy", "method", "preset", "rank", "strengths"):
        raise CaloraError(f"parameter {text!r} is no parameter of a method", f"give it as an option: --{key} {value}")
    try:
        found = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise CaloraError(
            f"parameter {text!r} cannot be read", "write it as density=0.5 or density=[0.5,0.2]"
        ) from error
    return key, tuple(found) if isinstance(found, list) else found


def method_of(method: str | None, preset: str | None) -> str:
    """The merge that is meant: `factors` where neither a method nor a preset is named.

    Raises:
        CaloraError: A preset is named alone.
    """
    from calora.merging.conventions import CONVENTIONS

    if method is None and preset is not None and preset in CONVENTIONS:
        raise CaloraError(f"--preset {preset} needs a --method", f"those it has: {', '.join(CONVENTIONS[preset])}")
    return method or "factors"


def read_parents(folders: Sequence[Path]) -> "tuple[list[Adapter], dict[str, str]]":
    """Adapters, from folders or the hub, and their names with the SHA-256 of their tensors."""
    from calora.adapter import adapter_sha256, read_adapter
    from calora.merging.shipping import adapter_folder, parent_names

    places = [adapter_folder(str(reference)) for reference in folders]
    adapters = [read_adapter(place) for place in places]
    names = parent_names([str(reference) for reference in folders], adapters)
    return adapters, dict(zip(names, map(adapter_sha256, places), strict=True))


def warn_of_other_tasks(composition: Composition, folders: Sequence[Path], adapters: "Sequence[Adapter]") -> None:
    """Say which adapters, given one a task, are for another task than the one at their place."""
    for task, folder, adapter in zip(composition.tasks, folders, adapters, strict=False):
        if adapter.card and adapter.card.name != task.name:
            say(f"warning: {folder} is for {adapter.card.name}, and is asked for {task.name}")


def load_backbone(name: str, named: str | None) -> "Backbone":
    """Load a backbone, and say how to name another one where it was not the user who named it.

    Args:
        name: Of the backbone.
        named: What the user says; None where an adapter says so.

    Raises:
        CaloraError: It cannot be loaded.
    """
    from calora.backbone import Backbone

    try:
        return Backbone.load(name)
    except CaloraError as error:
        if named is None:
            error.hint = f"the adapter says that it was made for {name}: name the backbone with --backbone"
        raise


def backbone_of(adapters: "Sequence[Adapter]", base: str | None, named: str | None) -> "Backbone":
    """The backbone that adapters are for, and that they fit.

    Args:
        adapters: Of one backbone.
        base: What a recipe or the adapters' configurations say.
        named: What the user says, which comes first; their cards come next.

    Raises:
        CaloraError: Nothing says which, it cannot be loaded, or an adapter does not fit it.
    """
    origin = named or next((adapter.card.backbone for adapter in adapters if adapter.card), base)
    if origin is None:
        raise CaloraError("the adapters do not say what backbone they are for", "name it: --backbone")
    backbone = load_backbone(origin, named)
    for adapter in adapters:
        backbone.check_adapter(adapter)
    return backbone


@contextmanager
def checkpoints(out: Path, data: Path | None, *depends: Any) -> Iterator[Path]:
    """A folder for the checkpoints of what is trained into `out`, removed once the block has written it.

    A training that was stopped is gone on with only if nothing that it depends on has changed.

    Args:
        out: What is trained.
        data: A file of examples; the Everyday corpus if None.
        depends: What else the result depends on, to be written as JSON.

    Raises:
        CaloraError: Another process trains what is to be there.
    """
    from calora.storage import alone_in, fingerprint, sha256_of

    place = out.parent / f".{out.name}-checkpoints"
    together = [count_of()] if count_of() > 1 else []
    with alone_in(place) if is_first() else nullcontext():
        yield place / fingerprint([__version__, sha256_of(data) if data else None, *depends, *together])
        wait_for_all()
        if is_first():
            shutil.rmtree(place, ignore_errors=True)


def refuse_existing(out: Path, force: bool) -> None:
    """Keep what is there unless told otherwise.

    Raises:
        CaloraError: The place is taken.
    """
    from calora.storage import check_named

    check_named(out)
    if out.exists() and not force:
        raise CaloraError(f"{out} is there already", "choose another place, or pass --force to replace it")


def refuse_ignored(given: Mapping[str, object], why: str) -> None:
    """Refuse what would be ignored.

    Args:
        given: The names of options and arguments, and their values, empty where they were left out.
        why: Nothing would be done with them.

    Raises:
        CaloraError: One was given.
    """
    if ignored := [name for name, value in given.items() if value not in (None, [])]:
        raise CaloraError(f"{', '.join(ignored)} would be ignored: {why}", "leave out what is not wanted")


def say(text: str) -> None:
    """A line for the person watching, on standard error; of several processes the first says it."""
    if is_first():
        print(text, file=sys.stderr, flush=True)
