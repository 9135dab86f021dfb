"""The commands about components that run: rows of the one table (commands.py)."""

from __future__ import annotations

from paas.cli.rows import LOOK, OPERATE, REQUEST_ID, TIMEOUT, Argument, Command, Option

_COMPONENT = Argument(
    "target", "a component: id, first 8 or more digits of it, or name", names="component"
)

LIVING_COMMANDS: tuple[Command, ...] = (
    Command(
        ("resize",),
        OPERATE,
        "give a component other limits while it runs",
        "living:resize",
        (
            ("resize web --memory 128M --cpu 0.5", "more room, from now on"),
            ("resize web --cpu-weight 300", "three times another one's share of a busy processor"),
        ),
        arguments=(_COMPONENT,),
        options=(
            Option(("--memory",), "how much memory it may use, like 128M", metavar="SIZE"),
            Option(("--cpu",), "how many cores, like 0.5", metavar="CORES"),
            Option(("--pids",), "how many processes and threads", kind="int", metavar="N"),
            Option(("--io",), "disk bytes a second, like 10M; 0: any", metavar="RATE"),
            Option(
                ("--cpu-weight",),
                "its share when there is not enough for all; 100 is everybody's",
                kind="int",
                metavar="N",
            ),
            TIMEOUT,
            REQUEST_ID,
        ),
        more="What is not named stays. It holds over restarts. Less memory than is in use is\n"
        "refused; the disk keeps its size.",
    ),
    Command(
        ("freeze",),
        OPERATE,
        "stop a component where it is",
        "living:freeze",
        (
            ("freeze web", "nothing of it moves until it is thawed"),
            ("freeze web -o json", "and its state as JSON"),
        ),
        arguments=(_COMPONENT,),
        options=(TIMEOUT, REQUEST_ID),
        more="It keeps its memory and its connections, and is `unavailable` (frozen). A call that\n"
        "names it waits until its own deadline. End it: paas thaw.",
    ),
    Command(
        ("thaw",),
        OPERATE,
        "let a frozen component go on",
        "living:thaw",
        (("thaw web", "it goes on where it was"), ("thaw web -o json", "and its state as JSON")),
        arguments=(_COMPONENT,),
        options=(TIMEOUT, REQUEST_ID),
    ),
    Command(
        ("why",),
        LOOK,
        "say why a component is as it is",
        "living:why",
        (
            ("why web", "how it ended, with the kernel's figures, and what follows"),
            ("why 0123456789 -o json", "the facts and the newest log lines as JSON"),
        ),
        arguments=(_COMPONENT,),
    ),
)
