"""The command line reaches every parameter, and a bad value is refused with its field and its range."""

import argparse
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from flows.command_line import add_options, explain, options, parameters_from
from flows.run import main
from flywheel.settings import MonitorParameters, TrainingParameters

MAKEFILE = Path(__file__).resolve().parents[2] / "Makefile"


def parse(*arguments: str) -> TrainingParameters:
    parser = argparse.ArgumentParser()
    add_options(parser)
    return parameters_from(parser.parse_args(arguments))


def test_no_option_gives_the_quickstart() -> None:
    assert parse() == TrainingParameters()


def test_a_preset_is_a_base_that_options_override() -> None:
    plain, changed = parse("--preset", "finetune"), parse("--PRESET", "finetune", "--epochs", "2", "--size", "auto")
    assert (plain.recipe.head_epochs, plain.recipe.epochs, plain.data.size) == (1, 3, 64)
    assert changed.recipe == plain.recipe.model_copy(update={"epochs": 2})
    assert changed.data.size is None
    assert parse("--preset", "quickstart") == parse()


def test_more_head_epochs_than_epochs_are_refused() -> None:
    with pytest.raises(ValidationError) as caught:
        parse("--epochs", "2", "--head-epochs", "3")
    assert explain(caught.value).startswith("HEAD_EPOCHS='3': at most 2, the number of epochs, expected.")


def test_options_reach_their_section() -> None:
    parameters = parse("--SOURCE", "my photos", "--subset", "1_500", "--epochs", "3", "--largest-ece", "0.5")
    assert parameters.data.source == "my photos"
    assert parameters.data.subset == 1500
    assert parameters.recipe.epochs == 3
    assert parameters.gate.largest_ece == 0.5


def test_all_is_no_subset() -> None:
    assert parse("--subset", "all").data.subset is None


def test_a_value_out_of_range_names_field_and_range() -> None:
    with pytest.raises(ValidationError) as caught:
        parse("--epochs", "0")
    assert explain(caught.value).startswith("EPOCHS='0': a whole number from 1 to 1000 expected.")
    with pytest.raises(ValidationError) as caught:
        parse("--subset", "1", "--warmup", "1")
    said = explain(caught.value)
    assert "SUBSET='1': a whole number from 2 to 100000000 expected, or none." in said
    assert "WARMUP='1': a number from 0, below 1 expected." in said


def test_an_empty_source_says_what_a_source_is() -> None:
    with pytest.raises(ValidationError) as caught:
        parse("--source", "")
    assert "SOURCE='': auto, cifar10, digits, or the path of a folder or archive" in explain(caught.value)


def test_every_problem_is_named_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--epochs", "many", "--schedule", "zigzag"]) == 2
    said = capsys.readouterr().err
    assert "EPOCHS='many'" in said
    assert "SCHEDULE='zigzag'" in said
    assert "'triangle', 'cosine' or 'constant'" in said


def test_make_passes_every_parameter_on() -> None:
    text = MAKEFILE.read_text(encoding="utf-8").replace("\\\n", " ")
    listed = re.search(r"^PARAMETERS := (.*)$", text, re.MULTILINE)
    assert listed is not None
    assert {name.lower() for name in listed.group(1).split()} == set(options(TrainingParameters))


def test_every_parameter_explains_itself() -> None:
    unexplained = [name for name, (_, field) in options(TrainingParameters).items() if not field.description]
    assert unexplained == []


def test_every_parameter_of_a_look_can_be_given_to_make() -> None:
    text = MAKEFILE.read_text(encoding="utf-8")
    watched = re.search(r"^WATCHED := ((?:.*\\\n)*.*)$", text, re.MULTILINE)
    assert watched
    names = {name.upper() for name in options(MonitorParameters)}
    assert set(watched[1].replace("\\", " ").split()) == names - {"TASK"}
