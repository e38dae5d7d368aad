"""Results for reading: tables, comparisons over seeds, sample answers, and one self-contained HTML page."""

from calora.report.compare import (
    Comparison,
    Estimate,
    comparison_markdown,
    comparison_rows,
    comparison_table,
)
from calora.report.examples import Sample, sample_answers, show_answers
from calora.report.folder import read_cells
from calora.report.page import write_page
from calora.report.pool import Measure, Pool, pooled
from calora.report.table import demo_table, markdown_table, own_table

__all__ = [
    "Comparison",
    "Estimate",
    "Measure",
    "Pool",
    "Sample",
    "comparison_markdown",
    "comparison_rows",
    "comparison_table",
    "demo_table",
    "markdown_table",
    "own_table",
    "pooled",
    "read_cells",
    "sample_answers",
    "show_answers",
    "write_page",
]
