"""From what a script asks for to a run: `stream-run`'s options and defaults, and nothing else."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import affectstream
from affectstream.options import SourceOptions, plan_run
from models.errors import UserError
from stream.options import InputOptions, OutputOptions


def test_nothing_asked_is_what_stream_run_does_by_itself() -> None:
    plan = plan_run("talk.mp4", "fast", {})
    assert plan.input_options == InputOptions("talk.mp4", pace="fast", accelerator="auto")
    assert plan.output_options == OutputOptions(view="none")
    assert (plan.shared, plan.sinks) == (None, ())


def test_every_option_that_is_documented_is_taken() -> None:
    values: dict[str, Any] = dict.fromkeys(SourceOptions.__annotations__, "x") | {"sinks": []}
    plan = plan_run(Path("talk.mp4"), "live", values)
    assert plan.input_options.recogniser == plan.input_options.microphone == plan.input_options.bundle == "x"
    assert plan.output_options.record == Path("x")


def test_every_engine_option_of_a_run_is_offered() -> None:
    asked = {field.name for field in fields(InputOptions)} - {"source", "pace"}
    assert asked <= set(SourceOptions.__annotations__)


def test_an_unknown_option_names_those_there_are() -> None:
    with pytest.raises(TypeError, match=r"no option 'bundel': choose from accelerator, .*bundle"):
        plan_run("talk.mp4", "fast", {"bundel": "demo"})


def test_a_bundle_that_is_loaded_is_computed_as_it_was_loaded() -> None:
    shared = affectstream.load_bundle("demo", accelerator="eager")
    plan = plan_run("talk.mp4", "fast", {"bundle": shared})
    assert plan.shared is shared
    assert plan.input_options.bundle == str(shared.folder)
    with pytest.raises(UserError, match="name it in load_bundle"):
        plan_run("talk.mp4", "fast", {"bundle": shared, "accelerator": "openvino"})
