"""The prompt that an approach asks with."""

from dataclasses import replace

from calora.adapter import AdapterCard
from calora.approaches.multi_step import multi_step
from calora.approaches.one_pass import one_pass
from calora.backbone import Backbone
from calora.calibration import Calibration, CalibrationCard, Unfolded
from calora.merging import Merge
from calora.tasks import Composition
from tests.conftest import random_adapter

BOTH = Composition.parse("summary+es")


def test_what_was_trained_for_just_this_is_asked_with_the_prompt_it_was_trained_with(llama: Backbone) -> None:
    now = llama.prompt(BOTH)
    then = replace(now, before=f"Today is Monday. {now.before}")
    card = AdapterCard(name="summary+es", backbone="tiny", backbone_sha256=llama.sha256, prompt=then)
    adapter = random_adapter(llama)
    assert one_pass(llama, BOTH, adapter.with_card(card))[0].prompt == then
    other = card.model_copy(update={"name": "summary"})
    assert one_pass(llama, BOTH, adapter.with_card(other))[0].prompt == now
    assert one_pass(llama, BOTH, adapter)[0].prompt == now
    assert one_pass(llama, BOTH, None)[0].prompt == now
    calibrated = CalibrationCard(
        kind="output-bias",
        rank=0,
        shared="kind",
        composition="summary+es",
        merge=Merge(),
        backbone="tiny",
        backbone_sha256=llama.sha256,
        prompt=then,
    )
    unfolded = Unfolded(adapter, Calibration(calibrated, {}))
    assert one_pass(llama, BOTH, unfolded)[0].prompt == then


def test_each_pass_of_multi_step_has_its_own_adapters_prompt(llama: Backbone) -> None:
    prompts = {
        name: replace(llama.prompt(Composition.parse(name)), after=f" as {name}: ") for name in ("summary", "es")
    }
    adapters = {
        name: random_adapter(llama).with_card(
            AdapterCard(name=name, backbone="tiny", backbone_sha256=llama.sha256, prompt=prompt)
        )
        for name, prompt in prompts.items()
    }
    assert [step.prompt for step in multi_step(llama, BOTH, adapters)] == list(prompts.values())
