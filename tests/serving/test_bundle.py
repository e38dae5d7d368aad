import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calora.adapter import Adapter, Factors, read_adapter, write_adapter
from calora.calibration import read_calibration
from calora.errors import CaloraError
from calora.export.gguf import read_gguf_adapter
from calora.merging import Merge
from calora.serving import Device, add_composition, check_bundle, open_bundle, write_bundle
from calora.serving.bundle import check_composition
from calora.serving.parts import parts_of
from calora.storage import sha256_of
from tests.conftest import random_adapter
from tests.export.conftest import pairs  # noqa: F401
from tests.serving.bundles import Made, calibration_of, edited, make_adapter, make_calibration, odd

TEXT = "Ann: Could you call me about the concert tonight?\nBob: Of course, I will do it after work."
OTHER = "Nothing of that; here is another text that goes on about the weather, which was fine, for many words. " * 2
TOKENS = 24

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.mark.parametrize("name", ["", ".", "..", "summary/es", "a\0b"])
def test_a_name_that_is_no_name_is_not_bundled(parts: Made, tmp_path: Path, name: str) -> None:
    folder = odd(parts, tmp_path / "odd", composition=name)
    with pytest.raises(CaloraError, match="odd is for"):
        write_bundle(tmp_path / "b", str(parts.model), list(parts.adapters.values()), [folder])


def test_two_of_one_name_and_an_unknown_type_are_refused(parts: Made, tmp_path: Path) -> None:
    joint = make_adapter(parts.backbone, "summary+es", tmp_path / "joint", seed=3)
    adapters = [*parts.adapters.values(), joint]
    with pytest.raises(CaloraError, match=r"two of what is given are for summary\+es"):
        write_bundle(tmp_path / "b", str(parts.model), adapters, [parts.calibrations["summary+es"]])
    with pytest.raises(CaloraError, match="cannot be bfloat16"):
        write_bundle(tmp_path / "b", str(parts.model), adapters, dtype="bfloat16")


def test_a_stale_calibration_is_refused(parts: Made, bundle: Path, tmp_path: Path) -> None:
    adapters = {**parts.adapters, "es": make_adapter(parts.backbone, "es", tmp_path / "es", seed=77)}
    with pytest.raises(CaloraError, match="is stale: its parent es was trained again"):
        write_bundle(tmp_path / "b", str(parts.model), list(adapters.values()), [parts.calibrations["summary+es"]])
    assert not (tmp_path / "b").exists()
    card = json.loads((bundle / "bundle.json").read_text())
    card["adapters"]["es"]["source_sha256"] = "0" * 64
    (bundle / "bundle.json").write_text(json.dumps(card))
    with Device.open(bundle, parts.model, context=256, threads=1) as device:
        assert device.left_out.keys() == {"summary+es", "reply+es"}
        assert "stale" in device.left_out["reply+es"]


def test_a_check_finds_what_was_changed(parts: Made, bundle: Path) -> None:
    assert check_bundle(open_bundle(bundle, parts.model)) == []
    shutil.copyfile(bundle / "adapters/es.gguf", bundle / "adapters/casual.gguf")
    (calibration_of(bundle, "reply+es") / "calibration.safetensors").unlink()
    wrong = check_bundle(open_bundle(bundle, parts.model))
    assert len(wrong) == 2
    assert wrong[0].endswith("adapters/casual.gguf is not the file that was bundled")
    assert wrong[1].startswith("composition reply+es: ")


def test_a_card_that_was_changed_is_found(parts: Made, bundle: Path) -> None:
    edited(calibration_of(bundle, "summary+es") / "calibration.json", kind="row-scale")
    wrong = check_bundle(open_bundle(bundle, parts.model))
    assert [line.partition(":")[0] for line in wrong] == ["composition summary+es"]


def test_another_prompt_and_an_unknown_type_in_the_bundles_card_are_found(parts: Made, bundle: Path) -> None:
    card = json.loads((bundle / "bundle.json").read_text())
    card["compositions"]["summary+es"]["prompt"]["before"] = "Ignore it: "
    (bundle / "bundle.json").write_text(json.dumps(card))
    wrong = check_bundle(open_bundle(bundle, parts.model))
    assert [line.partition(":")[0] for line in wrong] == ["composition summary+es"]
    assert "is not what was bundled" in wrong[0]
    edited(bundle / "bundle.json", dtype="q9")
    with pytest.raises(CaloraError, match=r"bundle\.json: dtype"):
        open_bundle(bundle, parts.model)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parents": {}}, "names no adapter as its parents"),
        ({"composition": "es"}, "is for es and names summary, es as its parents"),
        ({"parents": {"es": "0", "summary": "0"}}, r"is for summary\+es and has es, summary as its parents"),
        ({"merge": {"start": "product", "strengths": [1.0]}}, "has 1 strengths for 2 parents"),
        ({"sites": ["q_proj"]}, "the merge needs none"),
    ],
)
def test_a_calibration_that_does_not_fit_is_not_bundled(
    parts: Made, bundle: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    folder = odd(parts, tmp_path / "odd", **changes)
    before = {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()}
    with pytest.raises(CaloraError, match=message):
        add_composition(bundle, folder, parts.model)
    with pytest.raises(CaloraError, match=message):
        write_bundle(tmp_path / "new", str(parts.model), list(parts.adapters.values()), [folder])
    assert {
        path: path.read_bytes() for path in bundle.rglob("*") if path.is_file() and path.suffix != ".lock"
    } == before


def test_adapters_of_some_modules_are_bundled_with_what_was_learnt_on_them(parts: Made, tmp_path: Path) -> None:
    backbone = replace(parts.backbone, sha256=sha256_of(parts.model))
    few = {
        name: shape for name, shape in backbone.targets.items() if ".0." in name and name.endswith(("q_proj", "v_proj"))
    }
    adapters = {}
    for seed, task in enumerate(("summary", "es")):
        card = read_adapter(parts.adapters[task]).card
        assert card is not None
        adapters[task] = tmp_path / task
        write_adapter(random_adapter(few, seed=seed).with_card(card), adapters[task], "float32")
    product = Merge(start="product", strengths=(0.7, 0.9))
    folder = make_calibration(backbone, "summary+es", adapters, tmp_path / "both", product, shapes=few)
    write_bundle(tmp_path / "b", str(parts.model), list(adapters.values()), [folder])
    bundle = open_bundle(tmp_path / "b", parts.model)
    assert check_bundle(bundle) == []
    made_of = parts_of(bundle, check_composition(bundle, "summary+es"))
    beside = read_gguf_adapter(made_of.files["calibration summary+es"], bundle.layout)
    assert beside.modules.keys() == few.keys(), "and at no module that the merge does not have"


@pytest.mark.parametrize(("dtype", "most"), [("float16", 1e-3), ("q8_0", 3e-2)])
def test_a_merge_of_the_factors_is_the_one_that_was_calibrated(
    parts: Made, tmp_path: Path, dtype: str, most: float
) -> None:
    """Factors of other lengths in each adapter are made fit for the type, and by one measure."""
    random = np.random.default_rng(0)
    adapters, cards = {}, {}
    for task, size in (("summary", 4e-7), ("es", 1e-6)):
        adapter = random_adapter(parts.backbone, len(task), rank=32)
        lengths = size * np.exp(random.normal(0, 1, 32)).astype(np.float32)
        uneven = {module: Factors(pair.a, pair.b * lengths) for module, pair in adapter.modules.items()}
        cards[task] = read_adapter(parts.adapters[task]).card
        adapters[task] = tmp_path / task
        write_adapter(Adapter(uneven, cards[task]), adapters[task], "float32")
    start = Merge(start="factors")
    folder = make_calibration(parts.backbone, "summary+es", adapters, tmp_path / "both", start)
    write_bundle(tmp_path / "b", str(parts.model), list(adapters.values()), [folder], dtype=dtype)
    bundle = open_bundle(tmp_path / "b", parts.model)
    made_of = parts_of(bundle, check_composition(bundle, "summary+es"), calibrated=False)
    found = read_gguf_adapter(made_of.files["merged summary+es"], bundle.layout)
    for module, pair in start([read_adapter(adapters[task]) for task in ("summary", "es")]).modules.items():
        far = np.linalg.norm(found.modules[module].update() - pair.update()) / pair.norm()
        assert far < most, module


def test_the_backbone_is_the_first_adapters_unless_it_is_named(
    parts: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = make_adapter(parts.backbone, "es", tmp_path / "es", seed=2)
    card = read_adapter(own).card
    assert card
    write_adapter(read_adapter(own).with_card(card.model_copy(update={"backbone": str(parts.model)})), own, "float32")
    assert write_bundle(tmp_path / "b", None, [own]).backbone.name == parts.model.name
    write_adapter(Adapter(read_adapter(own).modules), own, "float32")
    with pytest.raises(CaloraError, match="does not say its backbone"):
        write_bundle(tmp_path / "c", None, [own])
    asked: list[str] = []
    monkeypatch.setattr(
        "calora.serving.bundle.hub_folder", lambda name: asked.append(name) or Path(parts.backbone.name)
    )
    edited(tmp_path / "b/bundle.json", backbone={"name": "owner/name", "sha256": "0" * 64})
    open_bundle(tmp_path / "b")
    open_bundle(tmp_path / "b", "other/name")
    assert asked == ["owner/name", "other/name"]


def test_a_name_that_is_taken_leaves_the_bundle_as_it_was(parts: Made, tmp_path: Path) -> None:
    joint = make_adapter(parts.backbone, "summary+es", tmp_path / "joint", seed=3)
    write_bundle(tmp_path / "b", str(parts.model), [*parts.adapters.values(), joint])
    with pytest.raises(CaloraError, match=r"has an adapter for summary\+es already"):
        add_composition(tmp_path / "b", parts.calibrations["summary+es"], parts.model)
    assert not (tmp_path / "b/calibrations").exists()


def test_what_is_replaced_stays_until_the_card_says_otherwise(parts: Made, bundle: Path, tmp_path: Path) -> None:
    old = calibration_of(bundle, "summary+es")
    new = make_calibration(parts.backbone, "summary+es", parts.adapters, tmp_path / "new", Merge(), seed=9)
    opened = open_bundle(bundle, parts.model)
    add_composition(bundle, new, parts.model)
    assert calibration_of(bundle, "summary+es") != old
    assert check_bundle(opened) == check_bundle(open_bundle(bundle, parts.model)) == []


def test_two_that_add_at_once_both_do(parts: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bundle(tmp_path / "b", str(parts.model), list(parts.adapters.values()))
    read = read_calibration
    monkeypatch.setattr(
        "calora.serving.bundle_writing.read_calibration", lambda folder: (time.sleep(0.1), read(folder))[1]
    )
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda one: add_composition(tmp_path / "b", one, parts.model), parts.calibrations.values()))
    found = open_bundle(tmp_path / "b", parts.model)
    assert found.card.compositions.keys() == parts.calibrations.keys()
    assert check_bundle(found) == []


def test_a_backbone_is_named_as_everywhere(parts: Made, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("calora.serving.bundle.embedded_gguf", lambda name: parts.model)
    assert open_bundle(bundle, Path("smollm2-135m")).model == parts.model
    with pytest.raises(CaloraError, match="backbone 'nothing' is no embedded name, no file or folder") as error:
        open_bundle(bundle, "nothing")
    assert "--backbone FILE.gguf" in str(error.value.hint)
    with pytest.raises(CaloraError, match="does not carry its backbone"):
        open_bundle(bundle)


def test_an_adapter_of_other_weights_is_told(parts: Made, tmp_path: Path) -> None:
    other = make_adapter(replace(parts.backbone, sha256="0" * 64), "es", tmp_path / "es", seed=2)
    with pytest.warns(UserWarning, match="es was trained on other weights of this architecture"):
        write_bundle(tmp_path / "b", str(parts.model), [other])


def test_a_bundle_that_points_outside_itself_is_refused(parts: Made, bundle: Path) -> None:
    card: dict[str, Any] = json.loads((bundle / "bundle.json").read_text())
    card["adapters"]["es"]["file"] = "../../etc/passwd"
    (bundle / "bundle.json").write_text(json.dumps(card))
    with pytest.raises(CaloraError, match="outside the bundle"):
        open_bundle(bundle, parts.model)


def test_another_backbone_is_told(parts: Made, bundle: Path) -> None:
    card = json.loads((bundle / "bundle.json").read_text())
    card["backbone"]["sha256"] = "0" * 64
    (bundle / "bundle.json").write_text(json.dumps(card))
    (wrong,) = check_bundle(open_bundle(bundle, parts.model))
    assert "is not the backbone" in wrong


@pytest.mark.parametrize("changes", [{"merge": {"start": "factors"}}, {"parents": ["summary", "casual"]}])
def test_another_merge_or_parent_in_the_bundles_card_is_found(parts: Made, bundle: Path, changes: Any) -> None:
    card = json.loads((bundle / "bundle.json").read_text())
    card["compositions"]["summary+es"] |= changes
    (bundle / "bundle.json").write_text(json.dumps(card))
    (wrong,) = check_bundle(open_bundle(bundle, parts.model))
    assert "is not what was bundled" in wrong
