"""Rows of the table of commands about names (see `commands`)."""

from __future__ import annotations

from paas.cli.rows import DRY_RUN, LOOK, OPERATE, REQUEST_ID, YES, Argument, Command, Option

_NAME = Argument("name", "a name within the zone, such as www.shop.app; @ is the zone itself")

DNS_COMMANDS: tuple[Command, ...] = (
    Command(
        ("dns", "list"),
        LOOK,
        "list names that were published, or with --all everything in the cluster's zone",
        "dns:list_",
        (
            ("dns list", "what was published, by whom"),
            ("dns list --all --below group.paas.internal", "the names of all groups"),
        ),
        options=(
            Option(("--all",), "the whole zone, as this node answers", kind="flag", default=False),
            Option(("--below",), "only names that end with this", default="", metavar="NAME"),
            Option(("--limit",), "so many records at most", kind="int", default=1000, metavar="N"),
        ),
    ),
    Command(
        ("dns", "status"),
        LOOK,
        "where this node answers for names, and how much it has answered",
        "dns:status",
        (("dns status", "zone, address, figures"), ("dns status -o json", "trust anchors too")),
    ),
    Command(
        ("dns", "query"),
        LOOK,
        "ask for a name, as a program would",
        "dns:query",
        (
            ("dns query web.group", "addresses of the available members of a group"),
            ("dns query _http._tcp.web.group SRV", "with their ports, the nearest first"),
            ("dns query n1.node.paas.internal A --server 192.0.2.7:7422", "of another server"),
        ),
        arguments=(
            Argument("name", "a name; one without a dot at its end is within the zone"),
            Argument("kind", "A, AAAA, SRV, TXT, …", required=False),
        ),
        options=(
            Option(("--server",), "who is asked; else this node", default="", metavar="HOST:PORT"),
            Option(("--tcp",), "ask by TCP", kind="flag", default=False),
        ),
    ),
    Command(
        ("dns", "publish"),
        OPERATE,
        "publish a record in the cluster's zone",
        "dns:publish",
        (
            ("dns publish www.shop.app A 192.0.2.80", "an address"),
            ("dns publish mail CNAME relay.example.com. --ttl 1h", "another name for it"),
            ("dns publish _smtp._tcp SRV '0 5 25 mail'", "a service"),
        ),
        arguments=(
            _NAME,
            Argument("kind", "A, AAAA, SRV, TXT, CNAME or MX"),
            Argument("data", "as in a zone file", many=True),
        ),
        options=(
            Option(
                ("--ttl",),
                "how long others may keep it",
                kind="duration",
                default=60.0,
                metavar="T",
            ),
            REQUEST_ID,
        ),
    ),
    Command(
        ("dns", "withdraw"),
        OPERATE,
        "withdraw records that were published",
        "dns:withdraw",
        (
            ("dns withdraw www.shop.app --yes", "all of this name"),
            ("dns withdraw www.shop.app A 192.0.2.80 --yes", "this one"),
        ),
        arguments=(
            _NAME,
            Argument("kind", "only those of this kind", required=False),
            Argument("data", "only this one", required=False, many=True),
        ),
        options=(YES, REQUEST_ID, DRY_RUN),
    ),
)
