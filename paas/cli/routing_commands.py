"""The commands that look at what passes through the hubs: rows of the table in commands.py."""

from __future__ import annotations

from paas.cli.rows import LOOK, Argument, Command, Option

SORTS = ("waiting", "bytes", "rate", "delivered", "refused", "name")

ROUTING_COMMANDS: tuple[Command, ...] = (
    Command(
        ("top",),
        LOOK,
        "queues, rates, slow components and refusals, as they change",
        "top:top",
        (
            ("top", "on a terminal, again every second until Ctrl-C"),
            ("top --once --sort rate -o json", "once, the busiest first, for programs"),
        ),
        options=(
            Option(("--sort",), "which components come first", choices=SORTS, default="waiting"),
            Option(("--limit",), "how many components (default: 20)", kind="int", metavar="N"),
            Option(("--once",), "show it once", kind="flag", default=False),
        ),
        more="Rates are per second, over the last second and over the last ten.",
    ),
    Command(
        ("allow",),
        LOOK,
        "may one component call an operation of another, and what would it take",
        "allow:allow",
        (
            ("allow web-1 store get", "with what to add to which manifest, if not"),
            ("allow web-1 group:stores put", "for each member of a group"),
        ),
        arguments=(
            Argument("caller", "who would call: id, id prefix or name", names="component"),
            Argument("target", "id, id prefix, component name, or group:NAME", names="target"),
            Argument("operation", "the operation's name"),
        ),
        options=(Option(("--object",), "an object of the target", default="", metavar="NAME"),),
    ),
)
