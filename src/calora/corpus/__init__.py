"""Records of dialogues with references for every task, and the examples made from them."""

from calora.corpus.everyday import load_everyday
from calora.corpus.examples import (
    Example,
    fields_for,
    make_examples,
    neighbour_targets,
    one_each,
    record_id,
    records_for,
    renamed_target,
)
from calora.corpus.names import draw_names, rename
from calora.corpus.pairs import read_pairs, write_pairs
from calora.corpus.records import (
    AnyRecord,
    OwnRecord,
    Record,
    Split,
    TextRecord,
    holds_records,
    read_own_records,
    read_records,
    spread,
)

__all__ = [
    "AnyRecord",
    "Example",
    "OwnRecord",
    "Record",
    "Split",
    "TextRecord",
    "draw_names",
    "fields_for",
    "holds_records",
    "load_everyday",
    "make_examples",
    "neighbour_targets",
    "one_each",
    "read_own_records",
    "read_pairs",
    "read_records",
    "record_id",
    "records_for",
    "rename",
    "renamed_target",
    "spread",
    "write_pairs",
]
