"""Rows of the table of commands about attributes (see commands.py)."""

from __future__ import annotations

from paas.cli.rows import DEVELOP, LOOK, REQUEST_ID, TIMEOUT, Argument, Command, Option

_OBJECT = Option(("--object",), "an object of the component", default="", metavar="NAME")
_KIND = Option(("--kind",), "only these", choices=("durable", "volatile"))

ATTRIBUTE_COMMANDS: tuple[Command, ...] = (
    Command(
        ("attribute", "get"),
        LOOK,
        "the attributes of a component, or of the members of a group",
        "attribute:get",
        (
            ("attribute get lamp", "all of them, as JSON"),
            ("attribute get lamp colour level", "two of them"),
            ("attribute get group:workers load --aggregate avg", "over all members"),
            ("attribute get lamp --watch", "now, and whenever they change"),
        ),
        arguments=(
            Argument("target", "id, id prefix, component name, or group:NAME", names="target"),
            Argument("names", "only these", required=False, many=True),
        ),
        options=(
            _OBJECT,
            _KIND,
            Option(
                ("--aggregate",),
                "one number a name, over the members of a group",
                choices=("sum", "min", "max", "avg", "count"),
            ),
            Option(("--watch", "-w"), "print changes as they come", kind="flag", default=False),
            Option(("--count",), "end after so many changes", kind="int", default=0, metavar="N"),
            TIMEOUT,
        ),
        more="An attribute that begins with `hub.` is what the platform knows of the component.",
    ),
    Command(
        ("attribute", "set"),
        DEVELOP,
        "set attributes of a component",
        "attribute:set_",
        (
            ("attribute set lamp colour=red level=3", "values are JSON, else text"),
            ("attribute set lamp level=4 --expect level=3", "only if it is 3 now"),
            ("attribute set lamp level=null", "remove it"),
        ),
        arguments=(
            Argument("target", "a component: id, id prefix, or name", names="component"),
            Argument("attributes", "words k=v, or one JSON object", many=True),
        ),
        options=(
            _OBJECT,
            Option(
                ("--kind",),
                "durable (in the log) or volatile (until the component ends)",
                choices=("durable", "volatile"),
                default="durable",
            ),
            Option(("--expect",), "only if this is its value now", many=True, metavar="k=v"),
            Option(("--ttl",), "volatile: gone after this time", kind="duration", metavar="TIME"),
            REQUEST_ID,
            TIMEOUT,
        ),
    ),
)
