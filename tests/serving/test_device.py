import json
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from calora.adapter import read_adapter, write_adapter
from calora.backbone import Backbone
from calora.calibration import read_calibration, write_calibration
from calora.errors import CaloraError
from calora.export.gguf import read_gguf_adapter
from calora.generation import Pass, answer_all
from calora.merging import Merge
from calora.ready import read_ready
from calora.serving import Device, Sampling, add_composition, check_bundle, open_bundle, write_bundle
from calora.serving.bundle import calibration_sha256, check_composition
from calora.serving.llama import LlamaServer, Request
from calora.serving.llama_engine import LlamaEngine
from calora.serving.menu import Way
from calora.serving.parts import parts_of
from calora.storage import sha256_of
from tests.conftest import random_adapter
from tests.export.conftest import pairs  # noqa: F401
from tests.export.tiny_gguf import CONTEXT, write_tiny_gguf
from tests.serving.bundles import Made, calibration_of, make_adapter, make_calibration, make_parts

TEXT = "Ann: Could you call me about the concert tonight?\nBob: Of course, I will do it after work."
OTHER = "Nothing of that; here is another text that goes on about the weather, which was fine, for many words. " * 2
TOKENS = 24


@pytest.fixture(scope="module")
def made(pairs: dict[str, tuple[Backbone, Path]], tmp_path_factory: pytest.TempPathFactory) -> Made:  # noqa: F811
    backbone, model = pairs["llama"]
    return make_parts(backbone, model, tmp_path_factory.mktemp("parts"))


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALORA_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def bundle(made: Made, tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    write_bundle(
        folder, str(made.model), list(made.adapters.values()), list(made.calibrations.values()), dtype="float32"
    )
    return folder


@pytest.fixture
def device(made: Made, bundle: Path) -> Iterator[Device]:
    with Device.open(bundle, made.model, compare=True, context=256, threads=1) as opened:
        yield opened


def passes_of(made: Made, name: str, way: Way) -> list[Pass]:
    """What torch runs for the same request."""
    parents = name.split("+")
    if len(parents) == 1:
        adapter = read_adapter(made.adapters[name])
        assert adapter.card is not None
        return [Pass(adapter if way == "calibrated" else None, adapter.card.prompt)]  # type: ignore[arg-type]
    calibration = read_calibration(made.calibrations[name])
    folders = [made.adapters[parent] for parent in parents]
    ready = {
        "calibrated": lambda: read_ready(made.calibrations[name], folders),
        "merge": lambda: calibration.card.merge([read_adapter(folder) for folder in folders]),
        "backbone": lambda: None,
    }[way]()
    return [Pass(ready, calibration.card.prompt)]  # type: ignore[arg-type]


def whole(text: str) -> str:
    """Without parts of characters, which random models write and llama.cpp leaves out at the end."""
    return text.replace("\N{REPLACEMENT CHARACTER}", "").strip()


def test_every_composition_answers_as_torch_does(made: Made, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("calora.serving.llama_engine.LlamaServer", partial(LlamaServer, exact=True))
    with Device.open(bundle, made.model, compare=True, context=256, threads=1) as device:
        seen = set()
        for name, way in device.offers:
            reply = device.run(name, TEXT, way, max_tokens=TOKENS)
            if way == "multi-step":
                first, second = name.split("+")
                between = device.run(first, TEXT, max_tokens=TOKENS)
                last = device.run(second, between.text, max_tokens=TOKENS)
                assert (reply.text, reply.passes) == (last.text, 2)
                assert reply.tokens == between.tokens + last.tokens
                continue
            expected = answer_all(made.backbone, passes_of(made, name, way), [TEXT], max_tokens=TOKENS)[0]
            assert whole(reply.text) == whole(expected.text), (name, way)
            assert reply.passes == 1
            assert reply.prompt_tokens == expected.prompt_tokens
            assert abs(reply.tokens - expected.tokens) <= 1  # an end token is counted by torch alone
            seen.add((name, reply.text))
        assert len(seen) >= 12  # each adapter is felt


def test_other_requests_leave_no_trace(made: Made, bundle: Path) -> None:
    """One prompt under several adapters, other prompts in between: llama.cpp's caches forget whose a prompt was."""
    ways: list[tuple[str, Way]] = [
        ("summary+es", "calibrated"),
        ("summary+es", "backbone"),
        ("summary+es", "merge"),
        ("summary", "calibrated"),
    ]

    def alone(name: str, way: Way) -> str:
        with Device.open(bundle, made.model, compare=True, context=256, threads=1) as fresh:
            return fresh.run(name, TEXT, way, max_tokens=TOKENS).text

    expected = {(name, way): alone(name, way) for name, way in ways}
    assert len(set(expected.values())) == len(ways)
    with Device.open(bundle, made.model, compare=True, context=256, threads=1) as device:
        for first in ways:
            for second in ways:
                assert device.run(first[0], TEXT, first[1], max_tokens=TOKENS).text == expected[first]
                device.run(second[0], OTHER, second[1], max_tokens=1)
                assert device.run(second[0], TEXT, second[1], max_tokens=TOKENS).text == expected[second]
                assert device.run(first[0], TEXT, first[1], max_tokens=TOKENS).text == expected[first]


def test_requests_at_once_do_not_mix(made: Made, bundle: Path) -> None:
    names = ["summary+es", "summary", "reply+es", "summary+casual", "reply+casual", "es"] * 3
    with Device.open(bundle, made.model, context=256, threads=1, slots=4) as device:
        alone = {name: device.run(name, TEXT, max_tokens=TOKENS).text for name in set(names)}
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda name: device.run(name, TEXT, max_tokens=TOKENS).text, names))
    assert found == [alone[name] for name in names]


def test_a_composition_joins_a_live_bundle_and_no_request_is_lost(made: Made, bundle: Path, tmp_path: Path) -> None:
    with Device.open(bundle, made.model, context=256, threads=1, slots=2) as device:
        expected = device.run("summary", TEXT, max_tokens=TOKENS).text
        pieces = device.stream("summary", TEXT, max_tokens=TOKENS)
        first = next(pieces)
        new = make_calibration(
            made.backbone, "summary+casual", made.adapters, tmp_path / "new", Merge(start="product"), seed=9
        )
        before = device.run("summary+casual", TEXT, max_tokens=TOKENS).text
        add_composition(bundle, new, made.model)
        device.reload()
        after = device.run("summary+casual", TEXT, max_tokens=TOKENS).text
        assert "".join([first.text, *(piece.text for piece in pieces)]).strip() == expected
        assert after != before


def test_a_corrupt_calibration_harms_only_its_composition(made: Made, bundle: Path) -> None:
    with Device.open(bundle, made.model, context=256, threads=1) as device:
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


def edited(file: Path, **changes: Any) -> None:
    """Change values of a JSON file."""
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | changes), encoding="utf-8")


@pytest.mark.parametrize(
    "damage",
    ["another kind", "a kind of the same shapes", "another merge", "another size", "a type of 8 bits", "no file"],
)
def test_a_calibration_that_is_not_the_bundled_one_is_left_out(made: Made, bundle: Path, damage: str) -> None:
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
    with Device.open(bundle, made.model, context=256, threads=1) as device:
        assert device.left_out.keys() == {"summary+es"}
        assert device.run("reply+es", TEXT, max_tokens=2).tokens


def test_an_adapter_changed_in_place_is_refused(made: Made, bundle: Path) -> None:
    shutil.copyfile(bundle / "adapters/es.gguf", bundle / "adapters/casual.gguf")
    with pytest.raises(CaloraError, match=r"casual\.gguf is not the file that was bundled"):
        Device.open(bundle, made.model, context=256, threads=1)


def test_a_waiting_request_is_answered_by_the_bundle_that_took_it(made: Made, bundle: Path) -> None:
    with Device.open(bundle, made.model, context=256, threads=1) as device:
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


@pytest.mark.parametrize("name", ["", ".", "..", "summary/es", "a\0b"])
def test_a_name_that_is_no_name_is_not_bundled(made: Made, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "odd"
    shutil.copytree(made.calibrations["summary+es"], folder)
    edited(folder / "calibration.json", composition=name)
    with pytest.raises(CaloraError, match="odd is for"):
        write_bundle(tmp_path / "b", str(made.model), list(made.adapters.values()), [folder])


def test_two_of_one_name_and_an_unknown_type_are_refused(made: Made, tmp_path: Path) -> None:
    joint = make_adapter(made.backbone, "summary+es", tmp_path / "joint", seed=3)
    adapters = [*made.adapters.values(), joint]
    with pytest.raises(CaloraError, match=r"two of what is given are for summary\+es"):
        write_bundle(tmp_path / "b", str(made.model), adapters, [made.calibrations["summary+es"]])
    with pytest.raises(CaloraError, match="cannot be bfloat16"):
        write_bundle(tmp_path / "b", str(made.model), adapters, dtype="bfloat16")


def test_what_is_not_there_is_told(device: Device) -> None:
    with pytest.raises(CaloraError, match=r"the bundle has no 'summary\+fr'"):
        device.run("summary+fr", TEXT)
    with pytest.raises(CaloraError, match="summary cannot be answered by 'multi-step'"):
        device.run("summary", TEXT, "multi-step")
    with pytest.raises(CaloraError, match="the text is empty"):
        device.run("summary", " \n")


def test_no_proxy_of_the_environment_is_asked(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")  # nothing listens there
    with LlamaServer(made.model, context=64, threads=1) as server:
        assert server.complete(Request([3], {}, 1))["tokens_predicted"] == 1


def test_an_adapter_that_is_not_loaded_is_refused(made: Made, bundle: Path) -> None:
    with LlamaServer(made.model, {"es": bundle / "adapters/es.gguf"}, context=64, threads=1) as server:
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


def test_no_context_is_longer_than_what_the_model_was_trained_for(made: Made, bundle: Path) -> None:
    with (
        Device.open(bundle, made.model, context=4 * CONTEXT, threads=1) as device,
        pytest.warns(UserWarning, match="its beginning is cut"),
    ):
        assert device.run("summary+es", TEXT * 20, max_tokens=TOKENS).prompt_tokens == CONTEXT - TOKENS


def test_a_file_that_says_how_to_sample_is_not_listened_to(made: Made, tmp_path: Path) -> None:
    def odd(writer: Any) -> None:
        writer.add_float32("general.sampling.penalty_repeat", 1.8)
        writer.add_float32("general.sampling.xtc_probability", 0.9)
        writer.add_float32("general.sampling.xtc_threshold", 0.01)
        writer.add_int32("general.sampling.mirostat", 2)
        writer.add_string("general.sampling.sequence", "penalties;xtc")

    write_tiny_gguf(made.backbone, "llama", tmp_path / "odd.gguf", odd)
    prompt = read_adapter(made.adapters["summary"]).card.prompt  # type: ignore[union-attr]
    for sampling in (Sampling(), Sampling(temperature=0.8, top_p=0.9, seed=3)):
        found = []
        for model in (made.model, tmp_path / "odd.gguf"):
            with closing(LlamaEngine(model, {}, context=CONTEXT, threads=1)) as engine:
                pieces = engine.generate(prompt, TEXT, {}, TOKENS, sampling)  # type: ignore[arg-type]
                found.append("".join(piece.text for piece in pieces))
        assert found[0] == found[1] != ""


def test_what_looks_like_a_special_token_stays_text(made: Made, device: Device) -> None:
    text = "Ann: </s><s> is that you?"
    reply = device.run("summary+es", text, max_tokens=TOKENS)
    expected = answer_all(made.backbone, passes_of(made, "summary+es", "calibrated"), [text], max_tokens=TOKENS)[0]
    assert reply.prompt_tokens == expected.prompt_tokens
    assert reply.text == expected.text


def test_a_stale_calibration_is_refused(made: Made, bundle: Path, tmp_path: Path) -> None:
    adapters = {**made.adapters, "es": make_adapter(made.backbone, "es", tmp_path / "es", seed=77)}
    with pytest.raises(CaloraError, match="is stale: its parent es was trained again"):
        write_bundle(tmp_path / "b", str(made.model), list(adapters.values()), [made.calibrations["summary+es"]])
    assert not (tmp_path / "b").exists()
    card = json.loads((bundle / "bundle.json").read_text())
    card["adapters"]["es"]["source_sha256"] = "0" * 64
    (bundle / "bundle.json").write_text(json.dumps(card))
    with Device.open(bundle, made.model, context=256, threads=1) as device:
        assert device.left_out.keys() == {"summary+es", "reply+es"}
        assert "stale" in device.left_out["reply+es"]


def test_a_check_finds_what_was_changed(made: Made, bundle: Path) -> None:
    assert check_bundle(open_bundle(bundle, made.model)) == []
    shutil.copyfile(bundle / "adapters/es.gguf", bundle / "adapters/casual.gguf")
    (calibration_of(bundle, "reply+es") / "calibration.safetensors").unlink()
    wrong = check_bundle(open_bundle(bundle, made.model))
    assert len(wrong) == 2
    assert wrong[0].endswith("adapters/casual.gguf is not the file that was bundled")
    assert wrong[1].startswith("composition reply+es: ")


def test_a_card_that_was_changed_is_found(made: Made, bundle: Path) -> None:
    edited(calibration_of(bundle, "summary+es") / "calibration.json", kind="row-scale")
    wrong = check_bundle(open_bundle(bundle, made.model))
    assert [line.partition(":")[0] for line in wrong] == ["composition summary+es"]


def odd(made: Made, folder: Path, **changes: Any) -> Path:
    """The calibration of summary+es, with other values in its card."""
    shutil.copytree(made.calibrations["summary+es"], folder)
    edited(folder / "calibration.json", **changes)
    return folder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parents": {}}, "names no adapter as its parents"),
        ({"composition": "es"}, "is for es and names summary, es as its parents"),
        ({"merge": {"start": "product", "strengths": [1.0]}}, "has 1 strengths for 2 parents"),
        ({"sites": ["q_proj"]}, "the merge needs none"),
    ],
)
def test_a_calibration_that_does_not_fit_is_not_bundled(
    made: Made, bundle: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    folder = odd(made, tmp_path / "odd", **changes)
    before = {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()}
    with pytest.raises(CaloraError, match=message):
        add_composition(bundle, folder, made.model)
    with pytest.raises(CaloraError, match=message):
        write_bundle(tmp_path / "new", str(made.model), list(made.adapters.values()), [folder])
    assert {
        path: path.read_bytes() for path in bundle.rglob("*") if path.is_file() and path.suffix != ".lock"
    } == before


def test_adapters_of_some_modules_are_bundled_with_what_was_learnt_on_them(made: Made, tmp_path: Path) -> None:
    backbone = replace(made.backbone, sha256=sha256_of(made.model))
    few = {
        name: shape for name, shape in backbone.targets.items() if ".0." in name and name.endswith(("q_proj", "v_proj"))
    }
    adapters = {}
    for seed, task in enumerate(("summary", "es")):
        card = read_adapter(made.adapters[task]).card
        assert card is not None
        adapters[task] = tmp_path / task
        write_adapter(random_adapter(few, seed=seed).with_card(card), adapters[task], "float32")
    product = Merge(start="product", strengths=(0.7, 0.9))
    folder = make_calibration(backbone, "summary+es", adapters, tmp_path / "both", product, shapes=few)
    write_bundle(tmp_path / "b", str(made.model), list(adapters.values()), [folder])
    bundle = open_bundle(tmp_path / "b", made.model)
    assert check_bundle(bundle) == []
    parts = parts_of(bundle, check_composition(bundle, "summary+es"))
    beside = read_gguf_adapter(parts.files["calibration summary+es"], bundle.layout)
    assert beside.modules.keys() == few.keys(), "and at no module that the merge does not have"


def test_a_calibration_without_parents_harms_only_its_composition(made: Made, bundle: Path) -> None:
    folder = calibration_of(bundle, "summary+es")
    edited(folder / "calibration.json", parents={})
    card = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
    card["compositions"]["summary+es"] |= {"parents": [], "sha256": calibration_sha256(folder)}
    (bundle / "bundle.json").write_text(json.dumps(card), encoding="utf-8")
    with Device.open(bundle, made.model, context=256, threads=1) as device:
        assert device.left_out.keys() == {"summary+es"}
        assert device.run("reply+es", TEXT, max_tokens=2).tokens


def test_a_name_that_is_taken_leaves_the_bundle_as_it_was(made: Made, tmp_path: Path) -> None:
    joint = make_adapter(made.backbone, "summary+es", tmp_path / "joint", seed=3)
    write_bundle(tmp_path / "b", str(made.model), [*made.adapters.values(), joint])
    with pytest.raises(CaloraError, match=r"has an adapter for summary\+es already"):
        add_composition(tmp_path / "b", made.calibrations["summary+es"], made.model)
    assert not (tmp_path / "b/calibrations").exists()


def test_what_is_replaced_stays_until_the_card_says_otherwise(made: Made, bundle: Path, tmp_path: Path) -> None:
    old = calibration_of(bundle, "summary+es")
    new = make_calibration(made.backbone, "summary+es", made.adapters, tmp_path / "new", Merge(), seed=9)
    opened = open_bundle(bundle, made.model)
    add_composition(bundle, new, made.model)
    assert calibration_of(bundle, "summary+es") != old
    assert check_bundle(opened) == check_bundle(open_bundle(bundle, made.model)) == []


def test_two_that_add_at_once_both_do(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bundle(tmp_path / "b", str(made.model), list(made.adapters.values()))
    read = read_calibration
    monkeypatch.setattr(
        "calora.serving.bundle_writing.read_calibration", lambda folder: (time.sleep(0.1), read(folder))[1]
    )
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda one: add_composition(tmp_path / "b", one, made.model), made.calibrations.values()))
    found = open_bundle(tmp_path / "b", made.model)
    assert found.card.compositions.keys() == made.calibrations.keys()
    assert check_bundle(found) == []


def test_a_backbone_is_named_as_everywhere(made: Made, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("calora.serving.bundle.embedded_gguf", lambda name: made.model)
    assert open_bundle(bundle, Path("smollm2-135m")).model == made.model
    with pytest.raises(CaloraError, match="nothing is no embedded backbone, no file and no folder"):
        open_bundle(bundle, "nothing")
    with pytest.raises(CaloraError, match="does not carry its backbone"):
        open_bundle(bundle)


def test_an_adapter_of_other_weights_is_told(made: Made, tmp_path: Path) -> None:
    other = make_adapter(replace(made.backbone, sha256="0" * 64), "es", tmp_path / "es", seed=2)
    with pytest.warns(UserWarning, match="es was trained on other weights of this architecture"):
        write_bundle(tmp_path / "b", str(made.model), [other])


def test_a_bundle_that_points_outside_itself_is_refused(made: Made, bundle: Path) -> None:
    card: dict[str, Any] = json.loads((bundle / "bundle.json").read_text())
    card["adapters"]["es"]["file"] = "../../etc/passwd"
    (bundle / "bundle.json").write_text(json.dumps(card))
    with pytest.raises(CaloraError, match="outside the bundle"):
        open_bundle(bundle, made.model)


def test_a_closed_stream_stops_computing(made: Made, bundle: Path) -> None:
    with Device.open(bundle, made.model, context=256, threads=1) as device:
        pieces = device.stream("summary", TEXT, max_tokens=100)
        next(pieces)
        pieces.close()
        assert device.run("summary", TEXT, max_tokens=TOKENS).text


@pytest.mark.filterwarnings("ignore:.* was trained on other weights:UserWarning")  # the file, not the folder
def test_torch_answers_what_llama_cpp_cannot_load(made: Made, tmp_path: Path) -> None:
    folder = made.backbone.name
    write_bundle(
        tmp_path / "b", folder, list(made.adapters.values()), list(made.calibrations.values()), dtype="float32"
    )
    assert check_bundle(open_bundle(tmp_path / "b", folder)) == []
    with Device.open(tmp_path / "b", folder, compare=True, context=256) as device:
        for name, way in device.offers:
            if way == "multi-step":
                continue
            reply = device.run(name, TEXT, way, max_tokens=TOKENS)
            expected = answer_all(made.backbone, passes_of(made, name, way), [TEXT], max_tokens=TOKENS)[0]
            assert whole(reply.text) == whole(expected.text), (name, way)
            assert (reply.tokens, reply.prompt_tokens) == (expected.tokens, expected.prompt_tokens)
            assert reply.truncated == expected.truncated
        pieces = device.stream("summary", TEXT, max_tokens=100)
        next(pieces)
        pieces.close()
        with pytest.raises(CaloraError, match="only takes the likeliest token"):
            device.run("summary", TEXT, sampling=Sampling(temperature=1.0))
        alone = device.run("es", TEXT, max_tokens=TOKENS).text
        pieces = device.stream("summary", TEXT, max_tokens=100)
        next(pieces)
        with ThreadPoolExecutor(1) as pool, closing(pieces):  # a stream that nobody reads holds nobody up
            assert pool.submit(device.run, "es", TEXT, max_tokens=TOKENS).result(60).text == alone
