"""The main table: a row an approach, the paper's categories, the overall mean, and the difference to one row."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

from calora.approaches.registry import approaches
from calora.errors import CaloraError
from calora.metrics import (
    Difference,
    bootstrap_interval,
    holm,
    mean_score,
    paired_difference,
    share_of_gain,
    smallest_detectable,
)
from calora.report.compare import Estimate
from calora.report.results import MEASURE_NAMES, MEASURES, Measure, Results, paired_scores, scores_of, shared_repeats
from calora.sizes import mebibytes

REFERENCE = "multi-step"
LEVEL = 0.05
_TEACHING = ("calibration-taught", "calibration", "linear")


@dataclass(frozen=True)
class Part:
    """The mean of a row over the compositions that it has of a category."""

    mean: float
    compositions: int


@dataclass(frozen=True)
class Against:
    """A row against the reference, on the compositions that both have.

    Attributes:
        difference: Row minus reference, paired by dialogue, with its 95 % interval and its p-value alone.
        adjusted: The p-value by Holm, over all rows of the table but controls.
        smallest: The smallest difference that these dialogues show with 80 % power.
        cells: How many both have, a composition with a backbone and a seed each.
    """

    difference: Difference
    adjusted: float
    smallest: float
    cells: int

    @property
    def significant(self) -> bool:
        """Whether the adjusted p-value is below 0.05."""
        return self.adjusted < LEVEL


@dataclass(frozen=True)
class MainRow:
    """One row of the main table; costs are means over its cells.

    Attributes:
        label: In the recipe.
        title: For people.
        control: Whether it is no approach but shows what a measure gives for nothing, or for more than there is.
        categories: Category to its part; categories of which the row has nothing are left out.
        overall: Mean over its compositions, its interval by dialogues.
        compositions: How many it has.
        cells: How many it has there, a backbone and a seed each.
        asked: How many of these the recipe asks for there.
        against: None for the reference and for controls, and where nothing is shared with the reference.
        passes: Fewest and most runs of the model a request.
        parameters: Learnt for a composition; its share of what several compositions use.
        together: What the compositions that share them store together; the parameters where none do.
        shared_by: How many compositions that is, on average over the compositions (so that their number divided by it
            is the number of groups).
        updates: Steps of the training that learnt them.
        examples: Seen in it.
        prompt_tokens: Read a request, over all passes.
        tokens: Generated a request, over all passes.
        seconds: A request, decoded in batches, the median of its cells.
        times_bare: Time at equal tokens, as a multiple of one pass of the bare backbone, the median of its cells; None
            if no cell has it.
        peak_mebibytes: What answering took beside the loaded backbone, the median of its cells; None if no cell has it.
    """

    label: str
    title: str
    control: bool
    categories: dict[str, Part]
    overall: Estimate
    compositions: int
    cells: int
    asked: int
    against: Against | None
    passes: tuple[int, int]
    parameters: float
    together: float
    shared_by: float
    updates: float
    examples: float
    prompt_tokens: float
    tokens: float
    seconds: float
    times_bare: float | None
    peak_mebibytes: float | None

    @property
    def mebibytes(self) -> float:
        """Size of the parameters in bfloat16, in MiB."""
        return mebibytes(self.parameters)


@dataclass(frozen=True)
class MainTable:
    """The rows of one measure, from which every form of the table is made.

    Attributes:
        measure: Of all figures.
        reference: Label of the row that the others are compared with; None if there is none.
        categories: Category to how many compositions it has.
        rows: In the recipe's order, controls last; those without the measure are left out.
        caption: What the figures are, in full sentences.
    """

    measure: Measure
    reference: str | None
    categories: dict[str, int]
    rows: list[MainRow]
    caption: str

    @property
    def compositions(self) -> int:
        """How many there are in all categories."""
        return sum(self.categories.values())


def main_table(
    results: Results, measure: Measure = "retrieval", against: str | None = None, *, compared: bool = True
) -> MainTable:
    """Compare every row of a benchmark with one of them.

    Args:
        results: What `read_results` read.
        measure: Of the figures.
        against: Label of the reference; multi-step where it is left out, and nothing if the run has no such row.
        compared: Whether there is a reference at all.

    Raises:
        CaloraError: No approach has the measure, or no row the label.
    """
    if measure not in results.measures:
        known = ", ".join(results.measures) or "nothing yet"
        raise CaloraError(f"no approach in {results.run} has scores of {measure}", f"there is: {known}")
    labels = [label for label in results.titles if results.having(label, measure)]
    if compared and against is not None and against not in labels:
        raise CaloraError(f"no row {against!r} to compare with", f"rows: {', '.join(labels)}")
    reference = (against or (REFERENCE if REFERENCE in labels else None)) if compared else None
    found = _compared(results, labels, reference, measure)
    rows = [_row(results, label, measure, found.get(label)) for label in labels]
    categories = {name: len(members) for name, members in results.categories.items()}
    caption = f"{_caption(results, measure, reference, rows)} {_kept(results, measure)}".strip()
    return MainTable(measure, reference, categories, rows, caption)


def check_measure(measure: str) -> Measure:
    """A measure by its name.

    Raises:
        CaloraError: There is no such measure.
    """
    for known in MEASURES:
        if measure == known:
            return known
    raise CaloraError(f"unknown measure {measure!r}", f"measures: {', '.join(MEASURES)}")


def _compared(results: Results, labels: Sequence[str], reference: str | None, measure: Measure) -> dict[str, Against]:
    if reference is None:
        return {}
    tables = {
        label: paired_scores(results, (label, reference), measure)
        for label in labels
        if label not in {reference, *results.controls}
    }
    tables = {label: pair for label, pair in tables.items() if pair[0].size}
    differences = {label: paired_difference(*pair) for label, pair in tables.items()}
    adjusted = holm({label: difference.p for label, difference in differences.items()}, _family(results, reference))
    shared = {label: shared_repeats(results, (label, reference), measure) for label in tables}
    cells = {label: sum(map(len, common.values())) for label, common in shared.items()}
    return {
        label: Against(differences[label], adjusted[label], smallest_detectable(*pair), cells[label])
        for label, pair in tables.items()
    }


def _family(results: Results, reference: str) -> int:
    """How many comparisons the recipe asks for, whether or not they could be made."""
    known = approaches()  # of a package that is not here there are only cells
    rows = [
        row.label_of(setting)
        for row in results.recipe.main_approaches
        for setting in row.settings
        if row.name not in known or not known[row.name].control
    ]
    return len(set(rows) - {*results.controls, reference})


def _kept(results: Results, measure: Measure) -> str:
    """How much of the gain of Learnable Calibration over its start the one keeps that is taught by multi-step."""
    published = [row for row in results.recipe.approaches if "paper" in row.settings and not row.options]
    labels = {row.name: row.label_of("paper") for row in published}
    if not set(_TEACHING) <= labels.keys():
        return ""
    taught, learnt, start = paired_scores(results, [labels[name] for name in _TEACHING], measure)
    if not taught.size:
        return ""
    kept = share_of_gain(taught, learnt, start)
    names = [results.titles[labels[name]] for name in _TEACHING]
    said = f"On the {len(taught)} compositions that all three have, {names[0]} keeps "
    gain = f"of what {names[1]} gains over {names[2]}"
    if kept is None:
        return f"{said}a share {gain} that cannot be told, as that may be nothing."
    share, low, high = (100 * value for value in kept)
    return f"{said}{share:.0f} % ({low:.0f} to {high:.0f}) {gain}."


def _row(results: Results, label: str, measure: Measure, against: Against | None) -> MainRow:
    scores = scores_of(results, label, measure)
    means = dict(zip(results.having(label, measure), [mean_score([row]) for row in scores], strict=True))
    parts = {
        name: [means[member] for member in members if member in means] for name, members in results.categories.items()
    }
    costs = [cell.costs for cell in results.cells(label)]
    times = [cost.times_bare for cost in costs if cost.times_bare is not None]
    peaks = [cost.peak_mebibytes for cost in costs if cost.peak_mebibytes is not None]
    return MainRow(
        label=label,
        title=results.titles[label],
        control=label in results.controls,
        categories={name: Part(sum(part) / len(part), len(part)) for name, part in parts.items() if part},
        overall=Estimate(mean_score(scores), *bootstrap_interval(scores)),
        compositions=len(means),
        cells=sum(len(results.entries[label, name].cells) for name in means),
        asked=sum(results.asked[label, name] for name in means),
        against=against,
        passes=(min(cost.passes for cost in costs), max(cost.passes for cost in costs)),
        parameters=fmean([(cost.parameters or 0) / cost.shared_by for cost in costs]),
        together=fmean([cost.parameters or 0 for cost in costs]),
        shared_by=1 / fmean([1 / cost.shared_by for cost in costs]),
        updates=fmean([cost.updates / cost.shared_by for cost in costs]),
        examples=fmean([cost.examples / cost.shared_by for cost in costs]),
        prompt_tokens=fmean([cost.prompt_tokens for cost in costs]),
        tokens=fmean([cost.tokens for cost in costs]),
        seconds=median([cost.seconds for cost in costs]),
        times_bare=median(times) if times else None,
        peak_mebibytes=median(peaks) if peaks else None,
    )


def _dialogues(results: Results) -> str:
    """How many there are, and of how many a composition is where not all have all."""
    counts = {len(examples) for examples in results.examples.values()}
    count = len(results.dialogues)
    if counts == {count}:
        return f"{count} dialogues"
    few, most = min(counts), max(counts)
    return f"{count} dialogues, of which a composition has {few if few == most else f'{few} to {most}'},"


def _caption(results: Results, measure: Measure, reference: str | None, rows: Sequence[MainRow]) -> str:
    cells = results.cells()
    seeds, count = sorted({cell.seed for cell in cells}), len(results.compositions)
    said = (
        f"{MEASURE_NAMES[measure]}, mean over {count} composition{'s' * (count > 1)}, "
        f"{_dialogues(results)} and seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))} on "
        f"{', '.join(sorted({cell.backbone for cell in cells}))}; with each overall mean its 95 % bootstrap interval, "
        "by dialogue. Costs are learnt for one composition, MiB in bfloat16."
    )
    if results.mixed:
        said += f" Not all cells are of one making: {'; '.join(results.mixed)}."
    if measure == "llm_judge":
        said += f" The language model: {results.asked_model}."
    if reference is not None:
        said += (
            f" Differences to {results.titles[reference]} are paired by dialogue, on the compositions and seeds that "
            f"both have; p of the sign-flip test, adjusted by Holm for {_family(results, reference)} rows, "
            f"bold below {LEVEL:g}; can show: the smallest difference seen with 80 % power."
        )
    full = {name: len(members) for name, members in results.categories.items()}
    if any(part.compositions < full[name] for row in rows for name, part in row.categories.items()):
        said += " *: over fewer compositions than the column has."
    if any(row.cells < row.asked for row in rows):
        said += " (of cells): so many of the row's cells are there, and its means are of other seeds or backbones."
    if any(row.against and row.against.cells < row.cells for row in rows):
        said += " (on cells): the row and the reference share fewer cells than the row has."
    return said
