"""Rows of the table of commands about a component's own tests (see `commands`)."""

from __future__ import annotations

from paas.cli.rows import DEVELOP, Argument, Command, Option

DEVELOP_COMMANDS: tuple[Command, ...] = (
    Command(
        ("test",),
        DEVELOP,
        "run a component's own tests, without a cluster",
        "test:test",
        (
            ("test examples/guestbook", "all test files of this component"),
            ("test tests/test_words.py", "one file of the component around it"),
            ("test . --python python3.9", "with another interpreter"),
        ),
        arguments=(
            Argument("path", "where component.toml is, or a file of tests", required=False),
        ),
        options=(
            Option(("--python",), "the interpreter of the tests", default="", metavar="FILE"),
            Option(("--runner",), "what runs them", choices=("pytest", "unittest")),
        ),
        more="Tests start the program with `paas_testing.Harness`: docs/howto/test-a-component.md.",
    ),
)
