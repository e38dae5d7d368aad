"""Judges of composite answers: an offline one, a language model, and how far each is to be trusted."""

from calora.judges.agreement import Agreement, agreement_table, measure_agreement
from calora.judges.chat import Endpoint, ask_all
from calora.judges.llm import LlmJudgement, judge_with_llm, parse_verdict, question
from calora.judges.meaning import embed, similarities
from calora.judges.negatives import hard_negatives
from calora.judges.offline import Check, Verdict, judge_answers
from calora.judges.thresholds import Thresholds, choose_thresholds
from calora.judges.tone import ToneAccuracy, ToneClassifier, cross_validate_tones, everyday_tones, train_tones

__all__ = [
    "Agreement",
    "Check",
    "Endpoint",
    "LlmJudgement",
    "Thresholds",
    "ToneAccuracy",
    "ToneClassifier",
    "Verdict",
    "agreement_table",
    "ask_all",
    "choose_thresholds",
    "cross_validate_tones",
    "embed",
    "everyday_tones",
    "hard_negatives",
    "judge_answers",
    "judge_with_llm",
    "measure_agreement",
    "parse_verdict",
    "question",
    "similarities",
    "train_tones",
]
