"""Rows of the table of commands about applications (see `commands`)."""

from __future__ import annotations

from paas.cli.rows import (
    DEVELOP,
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

_NAME = Argument("name", "the name of an application", names="application")
_WAIT = Option(
    ("--timeout",),
    "how long to wait until it is done; it goes on all the same",
    kind="duration",
    default=120.0,
    metavar="TIME",
)
_NO_WAIT = Option(("--no-wait",), "return when it is ordered", kind="flag", default=False)
_PLAN = Option(("--plan",), "only say which steps it would take", kind="flag", default=False)
_IF_REVISION = Option(
    ("--if-revision",),
    "only if the application is at this revision (0: there is none yet)",
    kind="int",
    metavar="N",
)

APP_COMMANDS: tuple[Command, ...] = (
    Command(
        ("app", "deploy"),
        DEVELOP,
        "make the cluster have an application, as its file says",
        "app:deploy",
        (
            ("app deploy", "application.toml of this directory"),
            ("app deploy shop/application.toml --plan", "what would be done, step by step"),
        ),
        arguments=(
            Argument("file", "application.toml, or the directory it is in", required=False),
        ),
        options=(
            _PLAN,
            _IF_REVISION,
            _NO_WAIT,
            _WAIT,
            Option(("--key",), "the file of the key that signs what is pushed", metavar="FILE"),
            REQUEST_ID,
        ),
        more="Directories named as `source` are pushed first. Members that are as they should be "
        "are left alone; outdated ones are replaced one at a time. Repeating it changes nothing.",
    ),
    Command(
        ("app", "list"),
        LOOK,
        "list applications",
        "app:list_",
        (
            ("app list", "with how many of their members are available"),
            ("app list --watch", "again whenever something changes"),
        ),
        options=(WATCH,),
    ),
    Command(
        ("app", "status"),
        LOOK,
        "how an application is: its roles, members, routes, and what it waits for",
        "app:status",
        (
            ("app status shop", "once"),
            ("app status shop --watch", "again whenever something changes"),
        ),
        arguments=(_NAME,),
        options=(WATCH,),
    ),
    Command(
        ("app", "scale"),
        OPERATE,
        "change how many members roles of an application have",
        "app:scale",
        (
            ("app scale shop web=5", "five of the role web"),
            ("app scale shop web=2 worker=0 --plan", "what that would do"),
        ),
        arguments=(_NAME, Argument("counts", "ROLE=N, one or more", many=True)),
        options=(_PLAN, _IF_REVISION, _NO_WAIT, _WAIT, REQUEST_ID),
    ),
    Command(
        ("app", "stop"),
        OPERATE,
        "end all members of an application; it stays known, and so do its files",
        "app:stop",
        (
            ("app stop shop", "and wait until they have ended"),
            ("app stop shop --dry-run", "who would end"),
        ),
        arguments=(_NAME,),
        options=(_NO_WAIT, _WAIT, REQUEST_ID, DRY_RUN),
    ),
    Command(
        ("app", "start"),
        OPERATE,
        "run an application again that was stopped",
        "app:start",
        (
            ("app start shop", "and wait until it is available"),
            ("app start shop --no-wait", "only order it"),
        ),
        arguments=(_NAME,),
        options=(_NO_WAIT, _WAIT, REQUEST_ID),
    ),
    Command(
        ("app", "destroy"),
        OPERATE,
        "remove an application: its members, its routes, and what is known of it",
        "app:destroy",
        (
            ("app destroy shop", "asks first; its volumes stay"),
            ("app destroy shop --volumes --yes", "without asking, with all its files"),
        ),
        arguments=(_NAME,),
        options=(
            Option(("--volumes",), "remove its volumes too", kind="flag", default=False),
            YES,
            _NO_WAIT,
            _WAIT,
            REQUEST_ID,
            DRY_RUN,
        ),
    ),
)
