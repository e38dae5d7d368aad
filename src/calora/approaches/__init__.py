"""Ways to answer a composite request: which adapters, how many passes, what prompt."""

from calora.approaches.control import constant_sentence
from calora.approaches.multi_step import multi_step
from calora.approaches.one_pass import one_pass
from calora.approaches.tuned_merge import Candidate, candidates, choose_merge

__all__ = [
    "Candidate",
    "candidates",
    "choose_merge",
    "constant_sentence",
    "multi_step",
    "one_pass",
]
