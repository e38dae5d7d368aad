"""What `calora merge --auto` does: which method and which strengths, searched on validation examples."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from calora.cli import options

if TYPE_CHECKING:
    from rich.table import Table

    from calora.merging.search import Trial


def search(
    adapters: Sequence[Path],
    out: Path,
    composition: str,
    backbone: str | None,
    data: Path | None,
    budget: int | None,
    force: bool,
) -> None:
    """Search the merge for a composition, write it, and print what did best.

    Args:
        adapters: Their folders.
        out: Folder of the merged adapter.
        composition: What it is for.
        backbone: What the adapters say if None.
        data: Examples of one's own; the validation split of the Everyday corpus if None.
        budget: How many merges are tried by loss; `search_merge`'s own number if None.
        force: Replace `out`.

    Raises:
        CaloraError: The adapters do not fit each other or the backbone, or there is nothing to search with.
    """
    from calora.adapter import Adapter
    from calora.merging.recipe import MergeRecipe, ModelEntry, merge_by_recipe
    from calora.merging.search import BUDGET, FINALISTS, search_merge
    from calora.merging.shipping import read_models, write_merged
    from calora.tasks import Composition

    parsed = Composition.parse(composition)
    options.refuse_existing(out, force)
    wanted = MergeRecipe(merge_method="product", models=tuple(ModelEntry(model=str(folder)) for folder in adapters))
    parents, wanted = read_models(wanted)
    examples = options.evaluation_examples(parsed, data, "validation")

    from calora.attach import attached
    from calora.bench.making import retrieval_of
    from calora.cli.show import console
    from calora.console import counting
    from calora.training.data import EncodedExamples
    from calora.training.mean_loss import mean_loss

    loaded = options.backbone_of(parents, wanted.base_model, backbone)
    prompt = loaded.prompt(parsed)
    encoded = EncodedExamples(loaded, prompt, lambda epoch: examples)

    def score(merged: Adapter) -> float:
        with attached(loaded, merged):
            return retrieval_of(loaded, parsed, examples)

    budget = budget or BUDGET
    with counting("searching merges", budget + FINALISTS) as advance:
        tried = search_merge(
            parents,
            lambda merged: mean_loss(loaded, merged, encoded),
            score,
            budget=budget,
            finalists=FINALISTS,
            follow=lambda: advance(1),
        )
    best = tried[0]
    entries = tuple(
        entry.model_copy(update={"parameters": {"weight": strength}})
        for entry, strength in zip(wanted.models, best.strengths, strict=True)
    )
    recipe = wanted.model_copy(update={"merge_method": best.method, "models": entries})
    merged, errors = merge_by_recipe(recipe, parents)
    assert isinstance(merged, Adapter)
    write_merged(merged, out, recipe, parents, errors, name=str(parsed), asked=(loaded, parsed))
    console.print(_table(tried[:10]))
    options.say(
        f"wrote {out}: {best.method}, rank {merged.rank}; {len(tried)} merges tried on {len(examples)} examples"
    )


def _table(tried: "list[Trial]") -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for head in ("method", "strengths", "loss", "retrieval %"):
        table.add_column(head, justify="left" if head == "method" else "right")
    for trial in tried:
        strengths = " / ".join(f"{strength:.2f}" for strength in trial.strengths)
        scored = "" if trial.score is None else f"{trial.score:.1f}"
        table.add_row(trial.method, strengths, f"{trial.loss:.3f}", scored)
    return table
