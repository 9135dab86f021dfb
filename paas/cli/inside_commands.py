"""The commands that go into components: rows of the one table (commands.py)."""

from __future__ import annotations

from paas.cli.rows import OPERATE, TIMEOUT, Argument, Command, Option

_COMPONENT = Argument(
    "target", "a component: id, first 8 or more digits of it, or name", names="component"
)
_ROOT = Option(
    ("--root",), "as user 0 inside, still without capabilities", kind="flag", default=False
)

INSIDE_COMMANDS: tuple[Command, ...] = (
    Command(
        ("exec",),
        OPERATE,
        "run a command beside a component, in its container",
        "exec:exec_",
        (
            ("exec greeter -- ps ax", "what runs in it"),
            ("exec -t greeter -- top", "on a terminal"),
            ("exec --cwd /tmp greeter -- ls -l", "in another directory than /app"),
        ),
        arguments=(
            _COMPONENT,
            Argument("command", "what to run, after --", required=False, many=True),
        ),
        options=(
            Option(("--terminal", "-t"), "give it a terminal", kind="flag", default=False),
            _ROOT,
            Option(("--env",), "set this for it, too", many=True, metavar="NAME=VALUE"),
            Option(("--cwd",), "begin in this directory", default="", metavar="PATH"),
            TIMEOUT,
        ),
        more="Ends as the command ends: its exit code, or 128 and the number of a signal.",
    ),
    Command(
        ("shell",),
        OPERATE,
        "a shell beside a component, in its container",
        "exec:shell",
        (
            ("shell greeter", "on this terminal"),
            ("shell greeter --root", "as user 0 inside; fed from standard input, a script"),
        ),
        arguments=(_COMPONENT,),
        options=(_ROOT, TIMEOUT),
    ),
    Command(
        ("proxy",),
        OPERATE,
        "a port here that leads to an endpoint of a component",
        "proxy:proxy",
        (
            ("proxy guestbook http --listen 8080", "http://127.0.0.1:8080/ is its endpoint"),
            ("proxy feeds-db 5432", "a port inside by its number; one here is chosen"),
        ),
        arguments=(_COMPONENT, Argument("endpoint", "its name in the manifest, or a TCP port")),
        options=(
            Option(
                ("--listen",), "where to listen here", default="127.0.0.1:0", metavar="[ADDR:]PORT"
            ),
        ),
        more="Who can reach the port here can reach the endpoint. Ends with Ctrl-C.",
    ),
    Command(
        ("cp",),
        OPERATE,
        "copy files into or out of a component",
        "copy:cp",
        (
            ("cp greeter:/app/notes .", "out of it: a file, or a directory and all below"),
            ("cp settings.json greeter:/app/", "into a directory of it"),
        ),
        arguments=(
            Argument("source", "a path here, or TARGET:PATH"),
            Argument("destination", "TARGET:PATH, or a path here"),
        ),
        options=(_ROOT,),
        more="Into a directory that is there, else under the new name. Relative paths inside"
        " begin at /app. Owners and special files are not copied.",
    ),
)
