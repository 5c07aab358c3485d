"""What a configuration says is trained of a region encoder."""

import pytest

from xt.errors import ConfigError
from xt.region_encoders.trained import Schedule, Trained, parse_trained


@pytest.mark.parametrize("text", ["all", "none", "norm_and_bias", "last:4", "lora:16", "dora:2"])
def test_what_there_is(text):
    assert str(parse_trained(text)) == text


@pytest.mark.parametrize(
    "text",
    ["", "last", "last:", "last:0", "last:-1", "last:1.5", "last: 4", "lora", "lora:x", "lora:99999", "none:1",
     "All", "all:", "head", None, 3, "last:²"],
)  # fmt: skip
def test_what_there_is_not(text):
    with pytest.raises(ConfigError, match=r"encoder_train must be one of all, none, .*, got "):
        parse_trained(text)


def test_one_for_all_epochs():
    schedule = Schedule.parse("lora:8")
    assert schedule.at(0) == schedule.at(99) == schedule.adapter == Trained("lora", 8)
    assert not schedule.is_all
    assert not schedule.is_frozen


def test_frozen_for_five_epochs_then_the_last_layers():
    schedule = Schedule.parse({5: "last:4", 0: "none"})
    assert [str(schedule.at(epoch)) for epoch in (0, 4, 5, 100)] == ["none", "none", "last:4", "last:4"]
    assert schedule.adapter is None
    assert not schedule.is_frozen


@pytest.mark.parametrize("value", [{}, {1: "none"}, {-1: "none", 0: "all"}])
def test_a_schedule_begins_at_the_beginning(value):
    with pytest.raises(ConfigError, match=r"must say what is trained from epoch 0 on"):
        Schedule.parse(value)


def test_a_network_has_one_adapter():
    assert Schedule.parse({0: "lora:4", 2: "last:1", 3: "lora:4"}).adapter == Trained("lora", 4)
    with pytest.raises(ConfigError, match=r"has the adapters dora:4 and lora:4"):
        Schedule.parse({0: "lora:4", 2: "dora:4"})
