"""A plot of each study, made from its committed cells.

    python benchmarks/studies.py [NAME ...]

For results/studies/NAME it writes docs/studies/NAME.svg: every row's retrieval and masked ROUGE with 95 % bootstrap
intervals over dialogues, in the recipe's order; lines where the linear merge and multi-step stand.
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from calora.metrics import bootstrap_interval
from calora.report.results import MEASURE_NAMES, Measure, Results, read_results, scores_of
from calora.storage import writing_file

ROOT = Path(__file__).parents[1]
MEASURES: tuple[Measure, Measure] = ("retrieval", "masked_rouge")
REFERENCES = {"linear": ":", "multi-step": "--"}
INK, ACCENT, SOFT = "#1d2126", "#0b7a75", "#8b96a4"


def plot(results: Results) -> Figure:
    """Two panels, a row of the study a line."""
    labels = [label for label in results.titles if label not in results.controls]
    figure, panels = plt.subplots(1, 2, figsize=(9, 0.8 + 0.34 * len(labels)), sharey=True, layout="constrained")
    for panel, measure in zip(panels, MEASURES, strict=True):
        _panel(panel, results, labels, measure)
    panels[0].set_yticks(range(len(labels)), [results.titles[label] for label in labels])
    panels[0].set_ylim(len(labels) - 0.5, -0.8)  # the first row on top, with room for its figure
    return figure


def _panel(panel: Axes, results: Results, labels: list[str], measure: Measure) -> None:
    for place, label in enumerate(labels):
        scores = scores_of(results, label, measure)
        mean, (low, high) = float(scores.mean()), bootstrap_interval(scores)
        colour = SOFT if label in REFERENCES else ACCENT
        panel.plot([low, high], [place, place], color=colour, linewidth=1.5, solid_capstyle="round")
        panel.plot(mean, place, "o", color=colour, markersize=6)
        panel.annotate(f"{mean:.1f}", (mean, place), (0, 5), textcoords="offset points", ha="center", fontsize=8)
        if label in REFERENCES:
            panel.axvline(mean, color=SOFT, linestyle=REFERENCES[label], linewidth=1, zorder=0)
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
            plot(read_results(runs / name)).savefig(temporary, format="svg", facecolor="white", metadata={"Date": None})
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
