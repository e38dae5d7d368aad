import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from calora.corpus.names import KNOWN
from calora.corpus.teachers import (
    CommandTeacher,
    EndpointTeacher,
    RewriterTeacher,
    Teacher,
    TranslatorTeacher,
)
from calora.errors import CaloraError
from tests.chat_server import Server, said

PYTHON = sys.executable


def script(folder: Path, text: str) -> str:
    path = folder / "program.py"
    path.write_text(text, encoding="utf-8")
    return f"{PYTHON} {path}"


# A command


def test_a_command_gets_lines_and_several_lines_are_one_text(tmp_path: Path) -> None:
    teacher = CommandTeacher(command=script(tmp_path, "import sys\nfor line in sys.stdin: print(line.strip().upper())"))
    assert teacher.answer(["one", "two\nthrée", " "]) == ["ONE", "TWO\nTHRÉE", None]
    assert teacher.about()["version"].startswith("Python 3")
    assert teacher.model_copy(update={"version": "7"}).about() == {"teacher": teacher.command, "version": "7"}


@pytest.mark.parametrize(
    ("program", "timeout", "problem"),
    [
        ("print('one')", 60, "wrote 1 lines for 4"),
        ("import sys; sys.exit('no such pair')", 60, "ended with 1: no such pair"),
        ("import time; time.sleep(60)", 0.5, "timed out"),
    ],
)
def test_a_command_that_does_not_do_it_is_named(tmp_path: Path, program: str, timeout: float, problem: str) -> None:
    with pytest.raises(CaloraError, match=problem):
        CommandTeacher(command=script(tmp_path, program), timeout=timeout).answer(["one", "two"])


def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(CaloraError, match="no such program"):
        CommandTeacher(command="apertium-of-nowhere eng-spa").answer(["one"])


@pytest.mark.skipif(shutil.which("apertium") is None, reason="apertium is not installed")
def test_apertium_translates() -> None:
    teacher = CommandTeacher(command="apertium -u eng-spa")
    found = teacher.answer(["The dog eats bread.", "Anna has a house."])
    assert found == ["El perro come pan.", "Anna tiene una casa."]
    # A name that it does not know would make the verb begin a sentence: "Adele Pide".
    told = teacher.answer([f"{name} asks her brother to come." for name in KNOWN])
    assert [answer and answer.split()[1] for answer in told] == ["pide"] * len(KNOWN)
    # It moves words from one line to the next where no full stop is between.
    apart = ["I bought a big", "house prices rose"]
    assert teacher.answer(apart) == [teacher.answer([text])[0] for text in apart]


# A chat server


def test_an_endpoint_is_asked_and_its_silence_is_no_answer(server: Server) -> None:
    server.respond = lambda prompt, number: (200, said(prompt.upper()) if "one" in prompt else "junk")
    teacher = EndpointTeacher.model_validate(
        {"endpoint": {"url": server.url, "model": "tiny"}, "prompt": "Make it large:\n{text}"}
    )
    assert teacher.answer(["one", "two"]) == ["MAKE IT LARGE:\nONE", None]
    assert server.requests[0]["max_tokens"] == 256
    assert teacher.words == ("Make it large:",)
    assert teacher.about()["prompt"] == teacher.prompt
    with pytest.raises(ValidationError, match=r"expected \{text\} once"):
        EndpointTeacher.model_validate({"endpoint": {"url": "http://x", "model": "m"}, "prompt": "Make it large"})


def test_an_endpoint_that_fails_or_is_asked_too_much_ends_the_run(server: Server) -> None:
    about = {"url": server.url, "model": "tiny", "retries": 0, "max_requests": 3}
    teacher = EndpointTeacher.model_validate({"endpoint": about, "prompt": "{text}"})
    cut = json.dumps({"choices": [{"message": {"content": "half of"}, "finish_reason": "length"}]})
    server.respond = lambda prompt, number: (200, cut)
    assert teacher.answer(["one", "two"]) == [None, None]
    with pytest.raises(CaloraError, match="the budget of 3 requests does not suffice for the next 2 texts"):
        teacher.answer(["three", "four"])
    server.respond = lambda prompt, number: (503, "")
    with pytest.raises(CaloraError, match="gave no answer to 1 of 1 requests"):
        teacher.answer(["three"])


# A causal model with examples


@pytest.mark.real_backbone
def test_a_rewriter_goes_on_from_its_examples() -> None:
    teacher = RewriterTeacher(
        model="gemma3-270m",
        instruction="Write each sentence in capital letters.",
        examples=(("the dog sleeps.", "THE DOG SLEEPS."), ("i like tea.", "I LIKE TEA."), ("we met.", "WE MET.")),
        max_tokens=24,
    )
    first, second = teacher.answer(["the cat runs.", "she likes\nmilk."])
    assert first == "THE CAT RUNS."
    assert second is not None and second.startswith("SHE LIKE") and second.isupper()
    assert teacher.about()["version"].startswith("a5fd3b62")
    assert "{text}\nRewritten:" in teacher.about()["prompt"]


# Translation models


def tiny_marian(folder: Path) -> None:
    import sentencepiece
    from transformers import MarianConfig, MarianMTModel, MarianTokenizer

    lines = [f"the dog number {n} eats bread and drinks milk" for n in range(200)]
    for name in ("source", "target"):
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines), model_prefix=str(folder.parent / name), vocab_size=45, minloglevel=2
        )
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder.parent / "source.model"))
    own = [pieces.id_to_piece(n) for n in range(pieces.get_piece_size())]
    known = ["</s>", "<unk>", *(piece for piece in own if piece not in ("</s>", "<unk>", "<s>")), "<pad>"]
    words = {piece: number for number, piece in enumerate(known)}
    (folder.parent / "vocab.json").write_text(json.dumps(words), encoding="utf-8")
    tokenizer = MarianTokenizer(
        source_spm=str(folder.parent / "source.model"),
        target_spm=str(folder.parent / "target.model"),
        vocab=str(folder.parent / "vocab.json"),
        source_lang="eng",
        target_lang="spa",
    )
    config = MarianConfig(
        vocab_size=len(words),
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_position_embeddings=64,
        pad_token_id=words["<pad>"],
        eos_token_id=0,
        decoder_start_token_id=words["<pad>"],
        forced_eos_token_id=0,
    )
    MarianMTModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def test_a_marian_model_translates_as_transformers_does_whatever_the_batch(tmp_path: Path) -> None:
    import torch
    from transformers import AutoTokenizer, MarianMTModel

    torch.manual_seed(0)
    folder = tmp_path / "opus-mt-en-es"
    tiny_marian(folder)
    texts = ["the dog eats bread", "milk", "the dog number 7 drinks milk and eats bread and drinks"]
    small = TranslatorTeacher(model=str(folder), beams=2, batch_size=2, max_tokens=12)
    model, tokenizer = MarianMTModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    alone = []
    for text in texts:
        found = model.generate(**tokenizer([text], return_tensors="pt"), num_beams=2, max_new_tokens=12)
        alone.append(tokenizer.batch_decode(found, skip_special_tokens=True)[0].strip() or None)
    assert small.answer(texts) == alone
    assert any(alone)
    version = small.about()["version"]
    assert small.about() == {"teacher": str(folder), "version": version}
    assert len(version) == 16  # of the folder's content


def test_languages_are_for_models_of_many(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="give source and target"):
        TranslatorTeacher(model="facebook/nllb-200-distilled-600M", target="spa_Latn")
    with pytest.raises(CaloraError, match="cannot load the translator"):
        TranslatorTeacher(model=str(tmp_path / "nothing")).answer(["one"])


def test_a_recipe_names_its_teacher() -> None:
    kinds: TypeAdapter[Any] = TypeAdapter(Teacher)
    assert isinstance(kinds.validate_python({"teacher": "command", "command": "cat"}), CommandTeacher)
    assert isinstance(kinds.validate_python({"teacher": "translator", "model": "m"}), TranslatorTeacher)
    with pytest.raises(ValidationError, match="magic"):
        kinds.validate_python({"teacher": "magic"})
