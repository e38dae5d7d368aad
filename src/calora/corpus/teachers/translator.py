"""A translation model of transformers: Marian (OPUS-MT), NLLB, M2M-100."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from calora.corpus.teachers.base import BaseTeacher
from calora.errors import CaloraError
from calora.storage import fingerprint, sha256_of


class TranslatorTeacher(BaseTeacher):
    """Translates by beam search, like lengths together.

    Args:
        model: A model of the hub, such as `Helsinki-NLP/opus-mt-en-es`, or a folder.
        source: The code of the texts' language, for a model of many: `en` (M2M-100), `eng_Latn` (NLLB), `eng` (Marian).
        target: Likewise, of the language wanted.
        beams: Of the search.
        batch_size: Texts at a time.
        max_tokens: Of an answer.
    """

    teacher: Literal["translator"] = "translator"
    model: str
    source: str | None = None
    target: str | None = None
    beams: int = Field(default=4, ge=1)
    batch_size: int = Field(default=16, ge=1)
    max_tokens: int = Field(default=256, ge=1)

    @model_validator(mode="after")
    def _both_or_neither(self) -> "TranslatorTeacher":
        if (self.source is None) != (self.target is None):
            raise ValueError("give source and target for a model of many languages, neither for a model of one pair")
        return self

    def answer(self, texts: Sequence[str]) -> list[str | None]:
        """Translate all texts.

        Raises:
            CaloraError: The model cannot be loaded, or does not know a language.
        """
        import torch

        model, tokenizer = _loaded(self.model)
        wanted, front = self._languages(tokenizer)
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        answers: list[str | None] = [None] * len(texts)
        for start in range(0, len(order), self.batch_size):
            places = order[start : start + self.batch_size]
            batch = tokenizer(
                [front + texts[place] for place in places], return_tensors="pt", padding=True, truncation=True
            ).to(model.device)
            with torch.inference_mode():
                found = model.generate(**batch, num_beams=self.beams, max_new_tokens=self.max_tokens, **wanted)
            for place, text in zip(places, tokenizer.batch_decode(found, skip_special_tokens=True), strict=True):
                answers[place] = text.strip() or None
        return answers

    def about(self) -> dict[str, str]:
        """The model, its revision on the hub or the SHA-256 of a folder's files, and the languages."""
        model, _ = _loaded(self.model)
        version = getattr(model.config, "_commit_hash", None) or _content_of(self.model)
        pair = {} if self.target is None else {"prompt": f"{self.source} to {self.target}"}
        return {"teacher": self.model, "version": version} | pair

    def _languages(self, tokenizer: Any) -> tuple[dict[str, int], str]:
        """What makes a model of many languages translate into the one wanted: arguments, and words before each text."""
        known = tokenizer.get_vocab()
        if not hasattr(tokenizer, "src_lang"):
            if self.target is None:
                return {}, ""
            mark = f">>{self.target}<<"  # how Marian's models of several targets are asked
            if mark not in known:
                raise CaloraError(f"{self.model} knows no language {self.target!r}", "leave out source and target")
            return {}, f"{mark} "
        if self.source is None or self.target is None:
            raise CaloraError(f"{self.model} translates many languages", "give source and target, such as en and es")
        codes = getattr(tokenizer, "lang_code_to_token", {})  # M2M-100's are `__es__`
        ids = {}
        for language in (self.source, self.target):
            ids[language] = tokenizer.convert_tokens_to_ids(codes.get(language, language))
            if ids[language] in (None, tokenizer.unk_token_id):
                raise CaloraError(f"{self.model} knows no language {language!r}", "see the model's card for its codes")
        tokenizer.src_lang = self.source
        return {"forced_bos_token_id": ids[self.target]}, ""


@cache
def _content_of(folder: str) -> str:
    return fingerprint({path.name: sha256_of(path) for path in sorted(Path(folder).iterdir()) if path.is_file()})


@cache
def _loaded(name: str) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    try:
        model: Any = AutoModelForSeq2SeqLM.from_pretrained(name).eval()
        tokenizer = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise CaloraError(
            f"cannot load the translator {name}: {str(error).splitlines()[0]}", "give a folder or a model of the hub"
        ) from error
    return (model.to("cuda") if torch.cuda.is_available() else model), tokenizer
