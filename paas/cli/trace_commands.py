"""Rows of the table of commands about traces (see `commands`)."""

from __future__ import annotations

from paas.cli.rows import LOOK, TIMEOUT, Argument, Command, Option

TRACE_COMMANDS: tuple[Command, ...] = (
    Command(
        ("trace", "call"),
        LOOK,
        "run an operation, and show where its time went",
        "trace:call",
        (
            ("trace call store latest '{\"limit\": 5}'", "each hop with its time, as a tree"),
            ("trace call group:greeters greet name=Ada -o json", "the spans as JSON"),
        ),
        arguments=(
            Argument("target", "id, id prefix, component name, or group:NAME", names="target"),
            Argument("operation", "the operation's name"),
            Argument(
                "inputs",
                "one JSON object, or words k=v (v is JSON, else text)",
                required=False,
                many=True,
            ),
        ),
        options=(
            Option(("--selector",), "which members of a group", default="any", metavar="SELECTOR"),
            Option(("--object",), "an object of the component", default="", metavar="NAME"),
            TIMEOUT,
        ),
        more="at: since the beginning; took: until its end; self: without what is below it.",
    ),
    Command(
        ("trace", "show"),
        LOOK,
        "show a trace that was recorded a moment ago",
        "trace:show",
        (
            ("trace show 4bf92f3577b34da6a3ce929d0e0e4736", "as a tree"),
            ("trace show 4bf92f3577b34da6a3ce929d0e0e4736 --format otlp", "for a collector"),
        ),
        arguments=(Argument("id", "32 hex digits, or a whole traceparent"),),
        options=(
            Option(
                ("--format",),
                "a tree, or OTLP JSON",
                choices=("tree", "otlp"),
                default="tree",
            ),
        ),
        more="Hubs keep the last 20,000 spans in memory; an error names its trace.",
    ),
)
