"""The table of commands holds together: functions, examples, words, options."""

from __future__ import annotations

import importlib
import inspect
import shlex

import pytest

from paas.base.errors import CATALOGUE, Exit
from paas.cli import commands, topics
from paas.cli.commands import COMMANDS
from paas.cli.parser import parse, python_name
from paas.cli.rows import GLOBAL_OPTIONS

ROWS = pytest.mark.parametrize("row", COMMANDS, ids=lambda row: row.path)


@ROWS
def test_the_function_of_a_row_takes_exactly_its_arguments_and_options(row):
    module, _, name = row.run.partition(":")
    function = getattr(importlib.import_module(f"paas.cli.{module}"), name)
    taken = set(inspect.signature(function).parameters) - {"session"}
    words = [*(a.name for a in row.arguments), *(o.keyword for o in row.options)]
    assert taken == {python_name(word) for word in words}


@ROWS
def test_a_row_has_two_examples_that_it_can_parse(row):
    assert len(row.examples) >= 2
    for example, _ in row.examples:
        plain = example.partition(" > ")[0].partition(" | ")[0]
        words = shlex.split(plain)
        found = commands.find(words)
        assert found is not None
        parse(found, words[len(found.words) :])


@ROWS
def test_no_option_of_a_row_collides_with_another_or_a_global_one(row):
    flags = [flag for option in (*row.options, *GLOBAL_OPTIONS) for flag in option.flags]
    assert len(flags) == len(set(flags))


def test_the_longest_row_is_found():
    assert commands.find(["context", "use", "x"]).words == ("context", "use")
    assert commands.find(["context", "-o", "json"]).words == ("context",)
    assert commands.find(["nothing"]) is None


def test_the_table_of_exit_statuses_is_the_one_of_the_errors():
    assert set(topics.EXIT_TEXTS) == set(Exit)
    text = topics.exit_codes()
    for kind in CATALOGUE.values():
        assert kind.code in text
    for status in Exit:
        assert any(
            line.split()[0] == str(int(status)) for line in text.splitlines() if line.split()
        )


@pytest.mark.parametrize("topic", topics.TOPICS)
def test_every_topic_is_printed(run, topic):
    done = run("help", topic)
    assert done.status == 0
    assert done.out == topics.TOPICS[topic]()
