"""A plot of each study, made from its committed cells.

    python benchmarks/studies.py [NAME ...]

For results/studies/NAME it writes docs/studies/NAME.svg: every row's retrieval and masked ROUGE with 95 % bootstrap
intervals over dialogues, in the recipe's order; lines where the linear merge and multi-step stand. Where rows leave a
domain out, they are drawn on that domain's dialogues, beside a row that learnt from it.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from calora.metrics import bootstrap_interval, mean_score
from calora.report.reading import read_results
from calora.report.results import MEASURE_NAMES, Measure, Results, Scores, scores_of
from calora.storage import writing_file

ROOT = Path(__file__).parents[1]
MEASURES: tuple[Measure, Measure] = ("retrieval", "masked_rouge")
REFERENCES = {"linear": ":", "multi-step": "--"}
INK, ACCENT, SOFT = "#1d2126", "#0b7a75", "#8b96a4"


@dataclass(frozen=True)
class Line:
    """A line of the plot.

    Args:
        title: Beside it.
        scores: Measure to scores [compositions, dialogues].
        soft: Whether it is there to be compared with.
        rule: Style of a rule through its mean; none if empty.
    """

    title: str
    scores: dict[Measure, Scores]
    soft: bool
    rule: str = ""


def lines_of(results: Results) -> list[Line]:
    """The rows of the study, or with domains left out the pairs on each of them, and on all of them together."""
    labels = [label for label in results.titles if label not in results.controls]
    scores = {label: {measure: scores_of(results, label, measure) for measure in MEASURES} for label in labels}
    left_out = {
        label: str(row.options["domain"])
        for row in results.recipe.approaches
        if (label := row.label or row.name) in labels and "domain" in row.options
    }
    if not left_out:
        return [
            Line(results.titles[label], scores[label], label in REFERENCES, REFERENCES.get(label, ""))
            for label in labels
        ]
    whole = next(label for label in labels if label not in left_out and label not in REFERENCES)
    domains = np.array(results.domains)
    lines, together = [], {soft: {measure: [] for measure in MEASURES} for soft in (True, False)}
    for label, domain in left_out.items():
        for soft, source in ((True, whole), (False, label)):
            parts = {measure: scores[source][measure][:, domains == domain] for measure in MEASURES}
            lines.append(Line(f"{domain}, {'learnt with it' if soft else 'without it'}", parts, soft))
            for measure in MEASURES:
                together[soft][measure].append(parts[measure])
    for soft, name in ((True, "learnt with it"), (False, "without it")):
        parts = {measure: np.concatenate(together[soft][measure], axis=1) for measure in MEASURES}
        lines.append(Line(f"all {len(left_out)}, {name}", parts, soft))
    return lines


def plot(lines: list[Line]) -> Figure:
    """Two panels, a measure each."""
    figure, panels = plt.subplots(1, 2, figsize=(9, 0.8 + 0.34 * len(lines)), sharey=True, layout="constrained")
    for panel, measure in zip(panels, MEASURES, strict=True):
        _panel(panel, lines, measure)
    panels[0].set_yticks(range(len(lines)), [line.title for line in lines])
    panels[0].set_ylim(len(lines) - 0.5, -0.8)  # the first row on top, with room for its figure
    return figure


def _panel(panel: Axes, lines: list[Line], measure: Measure) -> None:
    for place, line in enumerate(lines):
        scores = line.scores[measure]
        mean, (low, high) = mean_score(scores), bootstrap_interval(scores)
        colour = SOFT if line.soft else ACCENT
        panel.plot([low, high], [place, place], color=colour, linewidth=1.5, solid_capstyle="round")
        panel.plot(mean, place, "o", color=colour, markersize=6)
        panel.annotate(f"{mean:.1f}", (mean, place), (0, 5), textcoords="offset points", ha="center", fontsize=8)
        if line.rule:
            panel.axvline(mean, color=SOFT, linestyle=line.rule, linewidth=1, zorder=0)
    panel.set_xlabel(MEASURE_NAMES[measure])
    panel.spines[["top", "right", "left"]].set_visible(False)
    panel.tick_params(left=False)
    panel.set_xlim(left=0)


def main() -> None:
    """Draw the studies that are named, or all that have results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    runs = ROOT / "results" / "studies"
    names = parser.parse_args().names or sorted(path.parent.name for path in runs.glob("*/recipe.json"))
    plt.rcParams.update({"svg.hashsalt": "calora", "svg.fonttype": "none", "text.color": INK, "font.size": 9})
    for name in names:
        path = ROOT / "docs" / "studies" / f"{name}.svg"
        with writing_file(path) as temporary:
            plot(lines_of(read_results(runs / name))).savefig(
                temporary, format="svg", facecolor="white", metadata={"Date": None}
            )
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
