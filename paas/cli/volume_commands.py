"""Rows of the table of commands about persistent volumes (see `commands`)."""

from __future__ import annotations

from paas.cli.rows import (
    DRY_RUN,
    LOOK,
    OPERATE,
    REQUEST_ID,
    WATCH,
    YES,
    Argument,
    Command,
    Option,
)

_OWNER = Argument("owner", "the name of a component, also of one that is no more", names="target")

VOLUME_COMMANDS: tuple[Command, ...] = (
    Command(
        ("volumes", "list"),
        LOOK,
        "list persistent volumes, and where they are",
        "volumes:list_",
        (
            ("volumes list", "all of the cluster"),
            ("volumes list --on n2", "those on one node"),
        ),
        options=(Option(("--on",), "only those on this node", metavar="NODE"), WATCH),
    ),
    Command(
        ("volumes", "show"),
        LOOK,
        "the volumes of one component, and what is used of them",
        "volumes:show",
        (
            ("volumes show db", "of the component named db, even if it is gone"),
            ("volumes show db -o json", "as JSON"),
        ),
        arguments=(_OWNER,),
    ),
    Command(
        ("volumes", "move"),
        OPERATE,
        "move volumes to another node; their component is stopped and goes on there",
        "volumes:move",
        (
            ("volumes move db n2", "and wait until it is done"),
            ("volumes move db n1", "back to where they are: give a move up"),
        ),
        arguments=(_OWNER, Argument("to", "the node to move to", names="node")),
        options=(
            Option(
                ("--grace",),
                "time that the component gets to end",
                kind="duration",
                default=10.0,
                metavar="TIME",
            ),
            Option(
                ("--wait",),
                "how long to wait for the end of the move; 0: not",
                kind="duration",
                default=3600.0,
                metavar="TIME",
            ),
            REQUEST_ID,
        ),
    ),
    Command(
        ("volumes", "remove"),
        OPERATE,
        "remove the volumes of a component with all that is in them",
        "volumes:remove",
        (
            ("volumes remove db", "asks first; nobody may have them in use"),
            ("volumes remove db --yes", "without asking"),
        ),
        arguments=(_OWNER,),
        options=(YES, REQUEST_ID, DRY_RUN),
    ),
)
