"""The one table of commands: help, completion, `docs/reference/cli.md` and the parser come from it.

To add a command: a row here, its function in the module of its noun, `python -m paas.cli.reference`
for the documentation (docs/internals/checklist-command.md).
"""

from __future__ import annotations

from paas.cli.access_commands import ACCESS_COMMANDS
from paas.cli.app_commands import APP_COMMANDS
from paas.cli.attribute_commands import ATTRIBUTE_COMMANDS
from paas.cli.bundle_commands import BUNDLE_COMMANDS
from paas.cli.cluster_commands import CLUSTER_COMMANDS
from paas.cli.develop_commands import DEVELOP_COMMANDS
from paas.cli.dns_commands import DNS_COMMANDS
from paas.cli.gateway_commands import GATEWAY_COMMANDS
from paas.cli.image_commands import IMAGE_COMMANDS
from paas.cli.inside_commands import INSIDE_COMMANDS
from paas.cli.living_commands import LIVING_COMMANDS
from paas.cli.mailbox_commands import MAILBOX_COMMANDS
from paas.cli.routing_commands import ROUTING_COMMANDS
from paas.cli.rows import (
    DEVELOP,
    DRY_RUN,
    LOOK,
    MISC,
    OPERATE,
    REQUEST_ID,
    RUN,
    TIMEOUT,
    WATCH,
    YES,
    Argument,
    Command,
    Option,
)
from paas.cli.snapshot_commands import SNAPSHOT_COMMANDS
from paas.cli.trace_commands import TRACE_COMMANDS
from paas.cli.volume_commands import VOLUME_COMMANDS

_COMPONENT = Argument(
    "target", "a component: id, first 8 or more digits of it, or name", names="component"
)
_TARGET = Argument("target", "id, id prefix, component name, or group:NAME", names="target")
_INPUTS = Argument(
    "inputs", "one JSON object, or words k=v (v is JSON, else text)", required=False, many=True
)
_OPERATION = Argument("operation", "the operation's name")
_CALL_OPTIONS = (
    Option(("--selector",), "which members of a group", default="any", metavar="SELECTOR"),
    Option(("--object",), "an object of the component", default="", metavar="NAME"),
    Option(("--attach",), "send this file along", many=True, metavar="FILE"),
    TIMEOUT,
)

COMMANDS: tuple[Command, ...] = (
    Command(
        ("dev",),
        RUN,
        "start a development cluster",
        "dev:dev",
        (
            ("dev", "one node in this terminal, until Ctrl-C"),
            ("dev --detach --state /srv/try", "in the background, with its state there"),
            ("dev --nodes 3 --detach", "three nodes, each in a network namespace of its own"),
        ),
        options=(
            Option(("--nodes",), "how many nodes, 1 to 9", kind="int", metavar="N"),
            Option(("--detach", "-d"), "return when it is ready", kind="flag", default=False),
            Option(("--demo",), "run a demonstration on it", choices=("feeds",)),
        ),
        more="Prints `ready` once components can be created. End it: Ctrl-C, or `paas down`.",
    ),
    Command(
        ("down",),
        RUN,
        "end a development cluster and all that runs in it",
        "down:down",
        (
            ("down", "end it; its state stays"),
            ("down --purge --yes", "and remove the state as well"),
        ),
        options=(
            Option(("--purge",), "remove the state directory too", kind="flag", default=False),
            YES,
            DRY_RUN,
        ),
    ),
    Command(
        ("demo",),
        RUN,
        "run a demonstration on the cluster",
        "demo:demo",
        (
            ("demo feeds", "the real-time feeds application behind a gateway"),
            ("dev --detach --demo feeds", "start a cluster for it as well"),
        ),
        arguments=(Argument("name", "feeds"),),
    ),
    Command(
        ("doctor",),
        RUN,
        "check this machine and the cluster, with a cure for each fault",
        "doctor:doctor",
        (
            ("doctor", "all checks"),
            ("doctor --leftovers", "what a cluster that has ended left on this machine"),
        ),
        options=(
            Option(
                ("--leftovers",),
                "only list what is left of a cluster that does not run",
                kind="flag",
                default=False,
            ),
        ),
    ),
    Command(
        ("init",),
        DEVELOP,
        "make a new component in this directory",
        "init:init",
        (
            ("init", "a Python component, named after the directory"),
            ("init shell --name hello", "a shell component"),
        ),
        arguments=(Argument("template", "python or shell", required=False),),
        options=(
            Option(("--name",), "its name", metavar="NAME"),
            Option(("--directory",), "where", default=".", metavar="DIR"),
            DRY_RUN,
        ),
    ),
    Command(
        ("push",),
        DEVELOP,
        "build, sign and store a bundle, and register its component type",
        "push:push",
        (
            ("push examples/hello", "register the type that its component.toml declares"),
            ("push . -o name", "print only name@version"),
        ),
        arguments=(Argument("directory", "where component.toml is", required=False),),
        options=(
            Option(("--key",), "sign with this key file", metavar="FILE"),
            REQUEST_ID,
            DRY_RUN,
        ),
    ),
    *DEVELOP_COMMANDS,
    Command(
        ("types",),
        DEVELOP,
        "list component types",
        "component_types:list_types",
        (("types", "all of them"), ("types -o name", "names only, one a line")),
        options=(WATCH,),
    ),
    Command(
        ("types", "show"),
        DEVELOP,
        "describe a component type",
        "component_types:show",
        (("types show hello", "its newest version"), ("types show hello@1.0.0", "this version")),
        arguments=(Argument("type", "name or name@version", names="type"),),
    ),
    Command(
        ("types", "remove"),
        DEVELOP,
        "forget a component type of which nothing runs",
        "component_types:remove",
        (
            ("types remove hello@1.0.0", "forget this version"),
            ("types remove hello@1.0.0 --dry-run", "only say what would be done"),
        ),
        arguments=(Argument("type", "name@version", names="type"),),
        options=(YES, DRY_RUN, REQUEST_ID),
    ),
    Command(
        ("create",),
        DEVELOP,
        "create components of a type",
        "component:create",
        (
            ("create hello", "one component; waits until it is available"),
            ("create hello --count 3 --group greeters", "three, all in a group"),
        ),
        arguments=(Argument("type", "name, or name@version", names="type"),),
        options=(
            Option(("--count", "-n"), "how many", kind="int", default=1, metavar="N"),
            Option(("--name",), "a name of its own", default="", metavar="NAME"),
            Option(("--group", "-g"), "join this group", many=True, metavar="GROUP"),
            Option(("--set",), "a value of its configuration", many=True, metavar="K=V"),
            Option(("--link",), "tie its life to this component's", many=True, metavar="ID"),
            Option(
                ("--restart",),
                "when to start it again",
                choices=("permanent", "transient", "temporary"),
            ),
            Option(("--no-wait",), "do not wait until it is available", kind="flag", default=False),
            TIMEOUT,
            REQUEST_ID,
        ),
    ),
    Command(
        ("terminate",),
        DEVELOP,
        "ask a component to end; it may refuse",
        "component:terminate",
        (
            ("terminate 7f3a9c12", "ask it"),
            ("terminate store reason=upgrade", "with inputs for it"),
        ),
        arguments=(_COMPONENT, _INPUTS),
        options=(TIMEOUT, REQUEST_ID, DRY_RUN),
    ),
    Command(
        ("destroy",),
        DEVELOP,
        "end a component: a signal, a deadline, then force",
        "component:destroy",
        (
            ("destroy 7f3a9c12", "returns when nothing of it is left"),
            ("destroy store --grace 2s --yes", "with less time, without asking"),
        ),
        arguments=(_COMPONENT,),
        options=(
            Option(("--grace",), "time to end by itself", kind="duration", metavar="TIME"),
            YES,
            DRY_RUN,
            TIMEOUT,
            REQUEST_ID,
        ),
    ),
    Command(
        ("link",),
        DEVELOP,
        "tie the lives of two components together",
        "component:link",
        (
            ("link 7f3a9c12 2b1c77d0", "an abnormal end of one ends the other"),
            ("link store frontend", "by name"),
        ),
        arguments=(
            Argument("a", "a component", names="component"),
            Argument("b", "another", names="component"),
        ),
        options=(REQUEST_ID,),
    ),
    Command(
        ("unlink",),
        DEVELOP,
        "untie two components",
        "component:unlink",
        (("unlink 7f3a9c12 2b1c77d0", "by id"), ("unlink store frontend", "by name")),
        arguments=(
            Argument("a", "a component", names="component"),
            Argument("b", "another", names="component"),
        ),
        options=(REQUEST_ID,),
    ),
    Command(
        ("call",),
        DEVELOP,
        "run an operation of a component and print what it yields, as JSON",
        "call:call",
        (
            ("call store latest '{\"limit\": 5}'", "inputs as JSON"),
            ("call group:greeters greet name=Ada --selector all", "every member of a group"),
        ),
        arguments=(_TARGET, _OPERATION, _INPUTS),
        options=(
            *_CALL_OPTIONS[:-1],
            Option(("--save",), "save attachments that come back there", metavar="DIR"),
            TIMEOUT,
        ),
    ),
    Command(
        ("cast",),
        DEVELOP,
        "tell a component to run an operation, and do not wait for it",
        "call:cast",
        (
            ("cast store forget url=http://example.org/", "one component"),
            ("cast group:workers refresh --selector all", "every member of a group"),
        ),
        arguments=(_TARGET, _OPERATION, _INPUTS),
        options=_CALL_OPTIONS,
    ),
    Command(
        ("ps",),
        LOOK,
        "list components",
        "component:ps",
        (("ps", "those that run"), ("ps --all -o json", "ended ones too, as JSON")),
        options=(
            Option(("--all", "-a"), "ended ones too", kind="flag", default=False),
            Option(
                ("--selector", "-l"),
                "only those with this type, group, name, state or node",
                many=True,
                metavar="FIELD=VALUE",
            ),
            WATCH,
        ),
    ),
    Command(
        ("show",),
        LOOK,
        "everything about one component",
        "component:show",
        (("show 7f3a9c12", "by the first digits of its id"), ("show store -w", "and its changes")),
        arguments=(_COMPONENT,),
        options=(WATCH,),
    ),
    Command(
        ("logs",),
        LOOK,
        "log records of a component, a group, a type, or everything",
        "log:logs",
        (
            ("logs -f greeters", "of a group's members, as they come"),
            ("logs store --since 10m --level warning", "warnings and errors of one component"),
        ),
        arguments=(Argument("target", "component, group or type", required=False, names="target"),),
        options=(
            Option(("--follow", "-f"), "go on with new records", kind="flag", default=False),
            Option(("--since",), "not older than this", kind="duration", metavar="TIME"),
            Option(("--tail", "-n"), "at most so many old ones", kind="int", metavar="N"),
            Option(
                ("--level",),
                "the least severe wanted",
                choices=("debug", "info", "warning", "error"),
                default="debug",
            ),
            Option(("--grep",), "only those with this text", default="", metavar="TEXT"),
        ),
    ),
    Command(
        ("events",),
        LOOK,
        "what happens to components, as it happens",
        "event:events",
        (("events", "until Ctrl-C"), ("events -o jsonl --count 10", "ten of them, as JSON")),
        options=(
            Option(("--follow", "-f"), "as it does anyway", kind="flag", default=False),
            Option(("--count",), "end after so many", kind="int", default=0, metavar="N"),
            TIMEOUT,
        ),
    ),
    Command(
        ("monitor",),
        LOOK,
        "wait for the end of a component, and say why",
        "event:monitor",
        (("monitor 7f3a9c12", "until it ends"), ("monitor store --timeout 60s", "or a minute")),
        arguments=(_COMPONENT,),
        options=(TIMEOUT,),
    ),
    Command(
        ("wait",),
        LOOK,
        "wait for a state of a component, or for members of a group",
        "event:wait",
        (
            ("wait store --for available --timeout 60s", "a component"),
            ("wait group:greeters --count 3", "three available members"),
        ),
        arguments=(Argument("target", "a component, or group:NAME", names="target"),),
        options=(
            Option(
                ("--for",),
                "a state, `ready` (available) or `ended`",
                default="available",
                metavar="STATE",
            ),
            Option(("--count",), "how many members", kind="int", default=1, metavar="N"),
            TIMEOUT,
        ),
    ),
    Command(
        ("groups",),
        LOOK,
        "list groups, or the members of one",
        "group:groups",
        (("groups", "all, with their numbers of members"), ("groups greeters", "who is in it")),
        arguments=(Argument("group", "a group", required=False, names="group"),),
        options=(
            Option(("--prefix",), "only names that begin so", default="", metavar="TEXT"),
            WATCH,
        ),
    ),
    Command(
        ("status",),
        OPERATE,
        "the state of the cluster",
        "cluster:status",
        (("status", "in short"), ("status -o json", "all of it")),
        options=(WATCH,),
    ),
    *APP_COMMANDS,
    *CLUSTER_COMMANDS,
    *ATTRIBUTE_COMMANDS,
    *ACCESS_COMMANDS,
    *INSIDE_COMMANDS,
    *MAILBOX_COMMANDS,
    *ROUTING_COMMANDS,
    *IMAGE_COMMANDS,
    *DNS_COMMANDS,
    *GATEWAY_COMMANDS,
    *TRACE_COMMANDS,
    *LIVING_COMMANDS,
    *VOLUME_COMMANDS,
    *SNAPSHOT_COMMANDS,
    *BUNDLE_COMMANDS,
    Command(
        ("api",),
        OPERATE,
        "call a method of the API and print its result as JSON",
        "api:api",
        (
            ("api cluster.status", "without parameters"),
            ("api controller.components '{\"all\": true}'", "with parameters"),
        ),
        arguments=(
            Argument("method", "its name; rpc.discover describes them all"),
            Argument(
                "params", "a JSON object, or - to read it from standard input", required=False
            ),
        ),
        options=(
            Option(
                ("--events",),
                "then print so many notifications",
                kind="int",
                default=0,
                metavar="N",
            ),
            TIMEOUT,
        ),
    ),
    Command(
        ("simulate",),
        DEVELOP,
        "run the whole platform on virtual time, with faults drawn from a seed",
        "simulate:simulate",
        (
            ("simulate --seed 7", "one run of 300 simulated seconds; what happened, what held"),
            ("simulate --seed 7 --story story.txt", "with a line for each event in a file"),
            ("simulate --seeds 0-199 --jobs 2", "many; a run that tested nothing fails"),
        ),
        options=(
            Option(("--seed",), "the seed of one run", kind="int", metavar="N"),
            Option(("--seeds",), "first and last seed", default="", metavar="A-B"),
            Option(("--nodes",), "how many nodes; 0: 3 to 5", kind="int", default=0, metavar="N"),
            Option(("--seconds",), "simulated time of a run", kind="int", default=300, metavar="N"),
            Option(("--jobs",), "processes, for many seeds", kind="int", default=2, metavar="N"),
            Option(("--story",), "write a line for each event", default="", metavar="FILE"),
            Option(("--quiet", "-q"), "one line", kind="flag", default=False),
        ),
        more="The same seed is the same run; one that fails says how to run it again.",
    ),
    Command(
        ("agent", "run"),
        OPERATE,
        "run one agent of the platform in this process (what systemd starts)",
        "agent:run",
        (
            ("agent run node --state /var/lib/paas", "the node controller"),
            ("agent run cleanup --state /var/lib/paas", "remove what a dead node left"),
        ),
        arguments=(Argument("role", "node, cleanup, …"),),
        hidden=True,
    ),
    Command(
        ("context",),
        MISC,
        "list contexts: names for clusters",
        "context:contexts",
        (("context", "all; * marks the current one"), ("context -o name", "names only")),
    ),
    Command(
        ("context", "add"),
        MISC,
        "name a cluster",
        "context:add",
        (
            ("context add lab --directory /srv/lab", "the cluster with its state there"),
            ("context add lab --directory /srv/lab --use", "and use it from now on"),
        ),
        arguments=(Argument("name", "letters, digits, hyphens"),),
        options=(
            Option(("--directory",), "its state directory", metavar="DIR"),
            Option(("--use",), "make it the current one", kind="flag", default=False),
        ),
    ),
    Command(
        ("context", "use"),
        MISC,
        "choose the cluster that commands mean",
        "context:use",
        (("context use lab", "from now on"), ("context use -", "none: the default again")),
        arguments=(Argument("name", "a context, or -"),),
    ),
    Command(
        ("context", "remove"),
        MISC,
        "forget a name for a cluster",
        "context:remove",
        (
            ("context remove lab", "the cluster itself stays"),
            ("context remove lab -o json", "as JSON"),
        ),
        arguments=(Argument("name", "a context"),),
    ),
    Command(
        ("completion",),
        MISC,
        "print the completion script of a shell",
        "completion:completion",
        (
            ("completion bash > /etc/bash_completion.d/paas", "for everybody on this machine"),
            ("completion fish | source", "for this shell"),
        ),
        arguments=(Argument("shell", "bash, zsh or fish"),),
    ),
    Command(
        ("complete",),
        MISC,
        "what could come next on a command line (for completion scripts)",
        "completion:complete",
        (("complete cr", "commands that begin so"), ("complete call ''", "live names")),
        arguments=(Argument("words", "the words after `paas`", required=False, many=True),),
        hidden=True,
    ),
    Command(
        ("version",),
        MISC,
        "print the version",
        "topics:version",
        (
            ("version", "of this command"),
            ("version -o json", "with those of Python and the cluster"),
        ),
    ),
    Command(
        ("help",),
        MISC,
        "help about a command, or environment, formatting, exit-codes, addressing",
        "topics:help_",
        (("help create", "about a command"), ("help exit-codes", "about a topic")),
        arguments=(
            Argument("topic", "a command or topic", required=False, many=True, names="topic"),
        ),
    ),
)

BY_WORDS: dict[tuple[str, ...], Command] = {row.words: row for row in COMMANDS}
WORDS_MAX = max(len(row.words) for row in COMMANDS)


def find(words: list[str]) -> Command | None:
    """The row with the longest beginning of `words`."""
    for length in range(min(WORDS_MAX, len(words)), 0, -1):
        row = BY_WORDS.get(tuple(words[:length]))
        if row is not None:
            return row
    return None
