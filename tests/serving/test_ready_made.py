"""What comes with the package."""

from pathlib import Path

import pytest

from calora.errors import CaloraError
from calora.metrics.language import in_language
from calora.serving import Device, ready_made
from calora.serving.bundle import BundleCard, calibration_sha256
from calora.serving.ready_made import find_ready_made
from calora.storage import read_card, sha256_of
from tests.serving.gateways import TEXT


def test_its_files_are_those_that_were_bundled_and_its_terms_lie_beside_them() -> None:
    folder = ready_made()
    card = read_card(folder / "bundle.json", BundleCard)
    assert card.backbone.file is None, "the backbone itself is not shipped"
    for adapter in card.adapters.values():
        assert sha256_of(folder / adapter.file) == adapter.sha256
    for composition in card.compositions.values():
        assert calibration_sha256(folder / composition.calibration) == composition.sha256
    assert "ai.google.dev/gemma/terms" in (folder / "NOTICE.txt").read_text()
    assert "Section 3: DISTRIBUTION AND RESTRICTIONS" in (folder / "GEMMA_TERMS.txt").read_text()


def test_it_is_found_by_the_name_of_a_composition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_ready_made("summary+es") == ready_made()
    assert find_ready_made("summary") == ready_made()
    assert find_ready_made("runs/summary") is None
    with pytest.raises(CaloraError, match=r"summary\+summary does not come ready-made .*only summary\+es"):
        find_ready_made("summary+summary")
    with pytest.raises(CaloraError, match="nothing ready-made comes with calora for smollm2-135m"):
        find_ready_made("summary+es", "smollm2-135m")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "summary").mkdir()
    assert find_ready_made("summary") is None, "a folder of one's own goes first"


@pytest.mark.slow
@pytest.mark.real_backbone
def test_it_answers_in_spanish() -> None:
    with Device.open(ready_made(), threads=1) as device:
        reply = device.run("summary+es", TEXT)
    assert (reply.passes, in_language(reply.text, "es")) == (1, True)
