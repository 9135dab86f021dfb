"""Rows of the table of commands about clusters and nodes (see `commands`)."""

from __future__ import annotations

from paas.cli.rows import (
    DRY_RUN,
    OPERATE,
    REQUEST_ID,
    TIMEOUT,
    WATCH,
    YES,
    Argument,
    Command,
    Option,
)

_NODE = Argument("name", "a node, as `paas nodes` lists it", names="node")
_STATE_HINT = "The state directory of the node is --state DIR; it must be a new one."

CLUSTER_COMMANDS: tuple[Command, ...] = (
    Command(
        ("cluster", "init"),
        OPERATE,
        "begin a cluster with one node that others can join",
        "cluster:init",
        (
            ("cluster init --name lab-1 --state /srv/lab", "listening on this machine's address"),
            ("cluster init --name lab-1 --listen 192.0.2.7:7420", "or on another"),
        ),
        options=(
            Option(("--name",), "what the cluster is called", default="paas", metavar="NAME"),
            Option(("--listen",), "where other nodes reach this one", metavar="ADDR[:PORT]"),
            Option(("--as",), "what this node is called", default="n1", metavar="NODE"),
        ),
        more=_STATE_HINT,
    ),
    Command(
        ("cluster", "token"),
        OPERATE,
        "make a token with which one node may join; list or revoke them",
        "cluster:token",
        (
            ("cluster token", "it can be used once, within ten minutes"),
            ("cluster token --ttl 1h -o name", "within an hour; print it alone"),
            ("cluster token --list", "which there are, and what became of them"),
            ("cluster token --revoke 0123456789abcdef", "it lets nobody in any more"),
        ),
        options=(
            Option(("--ttl",), "how long it can be used", kind="duration", metavar="TIME"),
            Option(("--list",), "list tokens instead", kind="flag", default=False),
            Option(("--revoke",), "revoke this one instead", default="", metavar="ID"),
        ),
    ),
    Command(
        ("cluster", "join"),
        OPERATE,
        "make this machine a node of a cluster",
        "cluster:join",
        (
            ("cluster join 192.0.2.7 --name n2", "the token is read from standard input"),
            ("cluster join 192.0.2.7:7421 --token T --name n2 --state /srv/n2", "or as a word"),
        ),
        arguments=(Argument("address", "ADDR[:PORT] where a node of the cluster takes others in"),),
        options=(
            Option(("--token",), "from `paas cluster token`; - reads it", default="-", metavar="T"),
            Option(("--name",), "what this node is called", default="n2", metavar="NODE"),
            Option(("--listen",), "where other nodes reach this one", metavar="ADDR[:PORT]"),
        ),
        more=_STATE_HINT,
    ),
    Command(
        ("cluster", "status"),
        OPERATE,
        "the state of the cluster",
        "cluster:status",
        (("cluster status", "in short"), ("cluster status -o json", "all of it")),
        options=(WATCH,),
    ),
    Command(
        ("cluster", "members"),
        OPERATE,
        "who takes part in the replicated log, and how",
        "cluster:members",
        (("cluster members", "voters and observers"), ("cluster members -w", "and changes")),
        options=(WATCH,),
    ),
    Command(
        ("cluster", "members", "remove"),
        OPERATE,
        "take a node out of the cluster and its log for good",
        "nodes:remove",
        (
            ("cluster members remove n3", "as `paas nodes remove n3`"),
            ("cluster members remove n3 --dry-run", "only say what would be done"),
        ),
        arguments=(_NODE,),
        options=(
            Option(("--force",), "also what would be refused", kind="flag", default=False),
            YES,
            DRY_RUN,
            REQUEST_ID,
        ),
    ),
    Command(
        ("cluster", "recover"),
        OPERATE,
        "go on with one node when a majority is lost for ever",
        "cluster:recover",
        (
            ("cluster recover --state /srv/n1", "only say what may be lost"),
            ("cluster recover --state /srv/n1 --i-accept-losses lab-1", "do it"),
        ),
        options=(Option(("--i-accept-losses",), "the cluster's name: do it", metavar="CLUSTER"),),
        more="Works on the state directory of a node that does not run.",
    ),
    Command(
        ("nodes",),
        OPERATE,
        "list nodes",
        "nodes:nodes",
        (("nodes", "names, states, roles"), ("nodes -o json", "all that is known")),
        options=(WATCH,),
    ),
    Command(
        ("nodes", "show"),
        OPERATE,
        "describe a node",
        "nodes:show",
        (("nodes show n2", "once"), ("nodes show n2 -w", "and its changes")),
        arguments=(_NODE,),
        options=(WATCH,),
    ),
    Command(
        ("nodes", "cordon"),
        OPERATE,
        "place nothing new on a node",
        "nodes:cordon",
        (
            ("nodes cordon n2", "what runs there stays"),
            ("nodes cordon n2 --reason disk", "with a reason for others to see"),
        ),
        arguments=(_NODE,),
        options=(Option(("--reason",), "why", default="", metavar="TEXT"), REQUEST_ID),
    ),
    Command(
        ("nodes", "uncordon"),
        OPERATE,
        "place components on a node again; ends a drain",
        "nodes:uncordon",
        (("nodes uncordon n2", "from now on"), ("nodes uncordon n2 -o json", "as JSON")),
        arguments=(_NODE,),
        options=(REQUEST_ID,),
    ),
    Command(
        ("nodes", "drain"),
        OPERATE,
        "move everything from a node to others",
        "nodes:drain",
        (
            ("nodes drain n2", "returns when nothing is left on it"),
            ("nodes drain n2 --grace 2s --timeout 60s", "with less time for components to end"),
        ),
        arguments=(_NODE,),
        options=(
            Option(("--grace",), "time to end by itself", kind="duration", metavar="TIME"),
            TIMEOUT,
            REQUEST_ID,
        ),
        more="Ctrl-C ends the waiting, not the drain; that ends with `paas nodes uncordon`.",
    ),
    Command(
        ("nodes", "remove"),
        OPERATE,
        "take a node out of the cluster for good",
        "nodes:remove",
        (
            ("nodes remove n3", "its name does not come back"),
            ("nodes remove n3 --force --yes", "even if components are on it"),
        ),
        arguments=(_NODE,),
        options=(
            Option(("--force",), "also what would be refused", kind="flag", default=False),
            YES,
            DRY_RUN,
            REQUEST_ID,
        ),
    ),
    Command(
        ("nodes", "kill"),
        OPERATE,
        "cut the power of a node of a development cluster",
        "nodes:kill",
        (("nodes kill n2", "everything on it ends at once"), ("nodes kill n2 -o json", "as JSON")),
        arguments=(_NODE,),
    ),
    Command(
        ("nodes", "pause"),
        OPERATE,
        "stop every process of a node of a development cluster",
        "nodes:pause",
        (("nodes pause n2", "time goes on without it"), ("nodes pause n2 -o json", "as JSON")),
        arguments=(_NODE,),
    ),
    Command(
        ("nodes", "resume"),
        OPERATE,
        "let a paused node go on, or switch on one that was killed",
        "nodes:resume",
        (("nodes resume n2", "from where it is"), ("nodes resume n2 -o json", "as JSON")),
        arguments=(_NODE,),
    ),
    Command(
        ("nodes", "partition"),
        OPERATE,
        "cut the network between nodes of a development cluster",
        "nodes:partition",
        (
            ("nodes partition 'n1|n2,n3'", "n1 on one side, n2 and n3 on the other"),
            ("nodes partition 'n1|n2' --one-way", "n2 does not hear n1, n1 still hears n2"),
        ),
        arguments=(Argument("groups", "names with , between, groups with | between"),),
        options=(
            Option(
                ("--one-way",),
                "the second group does not hear the first",
                kind="flag",
                default=False,
            ),
        ),
        more="Replaces the partition that there is. Without end: `paas nodes heal`.",
    ),
    Command(
        ("nodes", "heal"),
        OPERATE,
        "end every partition of a development cluster",
        "nodes:heal",
        (("nodes heal", "every node hears every other"), ("nodes heal -o json", "as JSON")),
    ),
)
