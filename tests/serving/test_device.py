import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from calora.adapter import read_adapter
from calora.calibration import read_calibration, write_calibration
from calora.errors import CaloraError
from calora.generation import Pass, answer_all
from calora.merging import Merge
from calora.ready import read_ready
from calora.serving import Device, Sampling, add_composition
from calora.serving.bundle import calibration_sha256
from calora.serving.llama import LlamaServer, Request
from calora.serving.llama_engine import LlamaEngine
from calora.serving.menu import Way
from tests.export.conftest import pairs  # noqa: F401
from tests.export.tiny_gguf import CONTEXT, write_tiny_gguf
from tests.serving.bundles import Made, calibration_of, edited, make_calibration

TEXT = "Ann: Could you call me about the concert tonight?\nBob: Of course, I will do it after work."
OTHER = "Nothing of that; here is another text that goes on about the weather, which was fine, for many words. " * 2
TOKENS = 24

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def device(parts: Made, bundle: Path) -> Iterator[Device]:
    with Device.open(bundle, parts.model, compare=True, context=256, threads=1) as opened:
        yield opened


def passes_of(parts: Made, name: str, way: Way) -> list[Pass]:
    """What torch runs for the same request."""
    parents = name.split("+")
    if len(parents) == 1:
        adapter = read_adapter(parts.adapters[name])
        assert adapter.card is not None
        return [Pass(adapter if way == "calibrated" else None, adapter.card.prompt)]  # type: ignore[arg-type]
    calibration = read_calibration(parts.calibrations[name])
    folders = [parts.adapters[parent] for parent in parents]
    ready = {
        "calibrated": lambda: read_ready(parts.calibrations[name], folders),
        "merge": lambda: calibration.card.merge([read_adapter(folder) for folder in folders]),
        "backbone": lambda: None,
    }[way]()
    return [Pass(ready, calibration.card.prompt)]  # type: ignore[arg-type]


def whole(text: str) -> str:
    """Without parts of characters, which random models write and llama.cpp leaves out at the end."""
    return text.replace("\N{REPLACEMENT CHARACTER}", "").strip()


def test_every_composition_answers_as_torch_does(parts: Made, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("calora.serving.llama_engine.LlamaServer", partial(LlamaServer, exact=True))
    with Device.open(bundle, parts.model, compare=True, context=256, threads=1) as device:
        seen = set()
        for name, way in device.offers:
            reply = device.run(name, TEXT, way, max_tokens=TOKENS)
            if way == "multi-step":
                first, second = name.split("+")
                between = device.run(first, TEXT, max_tokens=TOKENS)
                last = device.run(second, between.text, max_tokens=TOKENS)
                assert (reply.text, reply.passes) == (last.text, 2)
                assert reply.tokens == between.tokens + last.tokens
                assert reply.prompt_tokens == between.prompt_tokens + last.prompt_tokens
                continue
            expected = answer_all(parts.backbone, passes_of(parts, name, way), [TEXT], max_tokens=TOKENS)[0]
            assert whole(reply.text) == whole(expected.text), (name, way)
            assert reply.passes == 1
            assert reply.truncated == expected.truncated, (name, way)
            assert reply.prompt_tokens == expected.prompt_tokens
            assert abs(reply.tokens - expected.tokens) <= 1  # an end token is counted by torch alone
            seen.add((name, reply.text))
        assert len(seen) >= 12  # each adapter is felt


def test_other_requests_leave_no_trace(parts: Made, bundle: Path) -> None:
    """One prompt under several adapters, other prompts in between: llama.cpp's caches forget whose a prompt was."""
    ways: list[tuple[str, Way]] = [
        ("summary+es", "calibrated"),
        ("summary+es", "backbone"),
        ("summary+es", "merge"),
        ("summary", "calibrated"),
    ]

    def alone(name: str, way: Way) -> str:
        with Device.open(bundle, parts.model, compare=True, context=256, threads=1) as fresh:
            return fresh.run(name, TEXT, way, max_tokens=TOKENS).text

    expected = {(name, way): alone(name, way) for name, way in ways}
    assert len(set(expected.values())) == len(ways)
    with Device.open(bundle, parts.model, compare=True, context=256, threads=1) as device:
        for first in ways:
            for second in ways:
                assert device.run(first[0], TEXT, first[1], max_tokens=TOKENS).text == expected[first]
                device.run(second[0], OTHER, second[1], max_tokens=1)
                assert device.run(second[0], TEXT, second[1], max_tokens=TOKENS).text == expected[second]
                assert device.run(first[0], TEXT, first[1], max_tokens=TOKENS).text == expected[first]


def test_requests_at_once_do_not_mix(parts: Made, bundle: Path) -> None:
    names = ["summary+es", "summary", "reply+es", "summary+casual", "reply+casual", "es"] * 3
    with Device.open(bundle, parts.model, context=256, threads=1, slots=4) as device:
        alone = {name: device.run(name, TEXT, max_tokens=TOKENS).text for name in set(names)}
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda name: device.run(name, TEXT, max_tokens=TOKENS).text, names))
    assert found == [alone[name] for name in names]


def test_a_composition_joins_a_live_bundle_and_no_request_is_lost(parts: Made, bundle: Path, tmp_path: Path) -> None:
    with Device.open(bundle, parts.model, context=256, threads=1, slots=2) as device:
        expected = device.run("summary", TEXT, max_tokens=TOKENS).text
        pieces = device.stream("summary", TEXT, max_tokens=TOKENS)
        first = next(pieces)
        new = make_calibration(
            parts.backbone, "summary+casual", parts.adapters, tmp_path / "new", Merge(start="product"), seed=9
        )
        before = device.run("summary+casual", TEXT, max_tokens=TOKENS).text
        add_composition(bundle, new, parts.model)
        device.reload()
        after = device.run("summary+casual", TEXT, max_tokens=TOKENS).text
        assert "".join([first.text, *(piece.text for piece in pieces)]).strip() == expected
        assert after != before


def test_a_corrupt_calibration_harms_only_its_composition(parts: Made, bundle: Path) -> None:
    with Device.open(bundle, parts.model, context=256, threads=1) as device:
        answer = device.run("reply+es", TEXT, max_tokens=TOKENS).text
        (calibration_of(bundle, "summary+es") / "calibration.safetensors").write_bytes(b"\0" * 100)
        device.reload()
        assert device.left_out.keys() == {"summary+es"}
        assert device.run("reply+es", TEXT, max_tokens=TOKENS).text == answer
        with pytest.raises(CaloraError, match=r"summary\+es is left out"):
            device.run("summary+es", TEXT)
        (bundle / "bundle.json").write_text("{", encoding="utf-8")
        with pytest.raises(CaloraError, match=r"bundle\.json"):
            device.reload()
        assert device.run("reply+es", TEXT, max_tokens=TOKENS).text == answer


@pytest.mark.parametrize(
    "damage",
    ["another kind", "a kind of the same shapes", "another merge", "another size", "a type of 8 bits", "no file"],
)
def test_a_calibration_that_is_not_the_bundled_one_is_left_out(parts: Made, bundle: Path, damage: str) -> None:
    folder = calibration_of(bundle, "summary+es")
    tensors = folder / "calibration.safetensors"
    if damage == "another kind":
        edited(folder / "calibration.json", kind="low-rank")
    elif damage == "a kind of the same shapes":
        edited(folder / "calibration.json", kind="row-scale")
    elif damage == "another merge":
        edited(folder / "calibration.json", merge={"start": "product", "strengths": [1.0]})
    elif damage == "another size":
        calibration = read_calibration(folder)
        shorter = {name: value[:-1] for name, value in calibration.tensors.items()}
        write_calibration(replace(calibration, tensors=shorter), folder)
        card = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
        card["compositions"]["summary+es"]["sha256"] = calibration_sha256(folder)
        (bundle / "bundle.json").write_text(json.dumps(card), encoding="utf-8")
    elif damage == "a type of 8 bits":
        tensors.write_bytes(tensors.read_bytes().replace(b"BF16", b"F8_E"))
    else:
        tensors.unlink()
    with Device.open(bundle, parts.model, context=256, threads=1) as device:
        assert device.left_out.keys() == {"summary+es"}
        assert device.run("reply+es", TEXT, max_tokens=2).tokens


def test_an_adapter_changed_in_place_is_refused(parts: Made, bundle: Path) -> None:
    shutil.copyfile(bundle / "adapters/es.gguf", bundle / "adapters/casual.gguf")
    with pytest.raises(CaloraError, match=r"casual\.gguf is not the file that was bundled"):
        Device.open(bundle, parts.model, context=256, threads=1)


def test_a_waiting_request_is_answered_by_the_bundle_that_took_it(parts: Made, bundle: Path) -> None:
    with Device.open(bundle, parts.model, context=256, threads=1) as device:
        expected = device.run("summary+es", TEXT, max_tokens=TOKENS).text
        waiting, dropped = (device.stream("summary+es", TEXT, max_tokens=TOKENS) for _ in range(2))
        (calibration_of(bundle, "summary+es") / "calibration.safetensors").unlink()
        device.reload()
        assert "summary+es" in device.left_out
        assert "".join(piece.text for piece in waiting).strip() == expected
        before = device._loaded
        dropped.close()
        assert before.users == 0
        device.close()
        with pytest.raises(CaloraError, match="the device is closed"):
            device.reload()


def test_what_is_not_there_is_told(device: Device) -> None:
    with pytest.raises(CaloraError, match=r"the bundle has no 'summary\+fr'"):
        device.run("summary+fr", TEXT)
    with pytest.raises(CaloraError, match="summary cannot be answered by 'multi-step'"):
        device.run("summary", TEXT, "multi-step")
    with pytest.raises(CaloraError, match="the text is empty"):
        device.run("summary", " \n")


def test_no_proxy_of_the_environment_is_asked(parts: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")  # nothing listens there
    with LlamaServer(parts.model, context=64, threads=1) as server:
        assert server.complete(Request([3], {}, 1))["tokens_predicted"] == 1


def test_an_adapter_that_is_not_loaded_is_refused(parts: Made, bundle: Path) -> None:
    with LlamaServer(parts.model, {"es": bundle / "adapters/es.gguf"}, context=64, threads=1) as server:
        payload = server.payload(Request([3], {}, 1))
        assert payload["lora"] == [{"id": 0, "scale": 0.0}]  # never an empty list
        with pytest.raises(CaloraError, match="no adapter summary is loaded"):
            server.complete(Request([3], {"es": 1.0, "summary": 1.0}, 1))


def test_a_long_text_is_cut_and_an_impossible_request_told(device: Device) -> None:
    with pytest.warns(UserWarning, match="its beginning is cut"):
        reply = device.run("summary+es", TEXT * 20, max_tokens=TOKENS)
    assert reply.prompt_tokens == 256 - TOKENS
    with pytest.raises(CaloraError, match="of 256 that there are"):
        device.run("summary+es", TEXT, max_tokens=250)


def test_no_context_is_longer_than_what_the_model_was_trained_for(parts: Made, bundle: Path) -> None:
    with (
        Device.open(bundle, parts.model, context=4 * CONTEXT, threads=1) as device,
        pytest.warns(UserWarning, match="its beginning is cut"),
    ):
        assert device.run("summary+es", TEXT * 20, max_tokens=TOKENS).prompt_tokens == CONTEXT - TOKENS


def test_a_file_that_says_how_to_sample_is_not_listened_to(parts: Made, tmp_path: Path) -> None:
    def odd(writer: Any) -> None:
        writer.add_float32("general.sampling.penalty_repeat", 1.8)
        writer.add_float32("general.sampling.xtc_probability", 0.9)
        writer.add_float32("general.sampling.xtc_threshold", 0.01)
        writer.add_int32("general.sampling.mirostat", 2)
        writer.add_string("general.sampling.sequence", "penalties;xtc")

    write_tiny_gguf(parts.backbone, "llama", tmp_path / "odd.gguf", odd)
    prompt = read_adapter(parts.adapters["summary"]).card.prompt  # type: ignore[union-attr]
    for sampling in (Sampling(), Sampling(temperature=0.8, top_p=0.9, seed=3)):
        found = []
        for model in (parts.model, tmp_path / "odd.gguf"):
            with closing(LlamaEngine(model, {}, context=CONTEXT, threads=1)) as engine:
                pieces = engine.generate(prompt, TEXT, {}, TOKENS, sampling)  # type: ignore[arg-type]
                found.append("".join(piece.text for piece in pieces))
        assert found[0] == found[1] != ""


def test_what_looks_like_a_special_token_stays_text(parts: Made, device: Device) -> None:
    text = "Ann: </s><s> is that you?"
    reply = device.run("summary+es", text, max_tokens=TOKENS)
    expected = answer_all(parts.backbone, passes_of(parts, "summary+es", "calibrated"), [text], max_tokens=TOKENS)[0]
    assert reply.prompt_tokens == expected.prompt_tokens
    assert reply.text == expected.text


def test_a_calibration_without_parents_harms_only_its_composition(parts: Made, bundle: Path) -> None:
    folder = calibration_of(bundle, "summary+es")
    edited(folder / "calibration.json", parents={})
    card = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
    card["compositions"]["summary+es"] |= {"parents": [], "sha256": calibration_sha256(folder)}
    (bundle / "bundle.json").write_text(json.dumps(card), encoding="utf-8")
    with Device.open(bundle, parts.model, context=256, threads=1) as device:
        assert device.left_out.keys() == {"summary+es"}
        assert device.run("reply+es", TEXT, max_tokens=2).tokens


def test_what_is_replaced_is_closed_when_its_last_request_is_done(parts: Made, bundle: Path) -> None:
    def closed(engine: Any) -> bool:
        return engine._server._server is None

    with Device.open(bundle, parts.model, context=256, threads=1) as device:
        first = device._loaded.engine
        device.reload()
        assert closed(first)
        second, pieces = device._loaded.engine, device.stream("summary", TEXT, max_tokens=4)
        device.reload()
        assert not closed(second)
        list(pieces)
        assert closed(second)
