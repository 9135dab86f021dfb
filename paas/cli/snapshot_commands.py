"""The commands about snapshots of components' files: rows of the one table (commands.py)."""

from __future__ import annotations

from paas.cli.rows import LOOK, OPERATE, REQUEST_ID, TIMEOUT, YES, Argument, Command

_COMPONENT = Argument(
    "target", "a component: id, first 8 or more digits of it, or name", names="component"
)
_NAME = Argument("name", "the snapshot's name")

SNAPSHOT_COMMANDS: tuple[Command, ...] = (
    Command(
        ("snapshots", "list"),
        LOOK,
        "list the snapshots of a component's files",
        "snapshots:list_",
        (
            ("snapshots list web", "the oldest first"),
            ("snapshots list web -o json", "with all that is known of them"),
        ),
        arguments=(_COMPONENT,),
        options=(TIMEOUT,),
        more="They are on the disk of the component's node, and end with the component.",
    ),
    Command(
        ("snapshots", "create"),
        OPERATE,
        "keep a component's files as they are now",
        "snapshots:create",
        (
            ("snapshots create web before-update", "under a name"),
            ("snapshots create web", "under a name made of the time"),
        ),
        arguments=(
            _COMPONENT,
            Argument("name", "lower-case letters, digits and -", required=False),
        ),
        options=(TIMEOUT, REQUEST_ID),
        more="All that the component wrote in its file tree, without volumes, /tmp and memory.\n"
        "Where the node is not on Btrfs the component stands still while it is copied.",
    ),
    Command(
        ("snapshots", "restore"),
        OPERATE,
        "start a component again with the files of a snapshot",
        "snapshots:restore",
        (
            ("snapshots restore web before-update", "what was written since is lost"),
            ("snapshots restore web before-update --yes", "without a question"),
        ),
        arguments=(_COMPONENT, _NAME),
        options=(YES, TIMEOUT, REQUEST_ID),
        more="The component is killed and started again; it counts as one of its restarts.",
    ),
    Command(
        ("snapshots", "remove"),
        OPERATE,
        "remove a snapshot",
        "snapshots:remove",
        (
            ("snapshots remove web before-update", "asks first"),
            ("snapshots remove web before-update --yes", "does not ask"),
        ),
        arguments=(_COMPONENT, _NAME),
        options=(YES, TIMEOUT, REQUEST_ID),
    ),
)
