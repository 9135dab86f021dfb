"""Rows of the table of commands about routes and gateways (see `commands`)."""

from __future__ import annotations

from paas.cli.rows import DRY_RUN, OPERATE, REQUEST_ID, WATCH, YES, Argument, Command, Option

_ROUTE = Argument("name", "the name of a route")

GATEWAY_COMMANDS: tuple[Command, ...] = (
    Command(
        ("gateway", "routes"),
        OPERATE,
        "list routes: which requests from outside go to which group",
        "gateway:routes",
        (
            ("gateway routes", "all, with how many members answer"),
            ("gateway routes --application shop", "those of one application"),
        ),
        options=(
            Option(("--application",), "only those of this one", default="", metavar="NAME"),
            Option(("--gateway",), "only those of this group", default="", metavar="GROUP"),
            WATCH,
        ),
    ),
    Command(
        ("gateway", "route"),
        OPERATE,
        "everything about one route, and its members",
        "gateway:route",
        (("gateway route site", "its members"), ("gateway route site -o json", "as JSON")),
        arguments=(_ROUTE,),
    ),
    Command(
        ("gateway", "set"),
        OPERATE,
        "make a route, or change one",
        "gateway:set_",
        (
            ("gateway set site --group web", "everything, to the endpoint http of web's members"),
            (
                "gateway set api --group api --path /api --kind operation --websocket",
                "to the operation http of the members, as calls",
            ),
            ('gateway set site --field \'weights={"1.0":90,"1.1":10}\'', "by version of the type"),
        ),
        arguments=(_ROUTE,),
        options=(
            Option(("--group",), "whose members answer", metavar="GROUP"),
            Option(("--host",), "host name, *.example.org, or none for any", metavar="HOST"),
            Option(("--path",), "a prefix, such as /shop", metavar="PATH"),
            Option(("--kind",), "what answers", choices=("endpoint", "operation", "static")),
            Option(("--endpoint",), "name of the members' endpoint", metavar="NAME"),
            Option(("--operation",), "name of the members' operation", metavar="NAME"),
            Option(("--directory",), "folder of static files", metavar="PATH"),
            Option(("--gateway",), "the group of gateways that serve it", metavar="GROUP"),
            Option(("--application",), "the application it belongs to", metavar="NAME"),
            Option(("--websocket",), "let WebSockets pass", kind="flag", default=False),
            Option(
                ("--field",),
                "any field of the route as NAME=VALUE; the value is JSON, or text",
                many=True,
                metavar="NAME=VALUE",
            ),
            REQUEST_ID,
            DRY_RUN,
        ),
    ),
    Command(
        ("gateway", "remove"),
        OPERATE,
        "forget a route; what is under way is answered",
        "gateway:remove",
        (
            ("gateway remove site", "asks first"),
            ("gateway remove site --yes", "does not ask"),
        ),
        arguments=(_ROUTE,),
        options=(YES, REQUEST_ID, DRY_RUN),
    ),
    Command(
        ("gateway", "status"),
        OPERATE,
        "gateways that follow routes, and members that leave",
        "gateway:status",
        (("gateway status", "at the moment"), ("gateway status -w", "and whenever it changes")),
        options=(WATCH,),
    ),
    Command(
        ("gateway", "build"),
        OPERATE,
        "make the source folder of a gateway, for `paas push`",
        "gateway:build",
        (
            ("gateway build ./gateway --publish 8080", "one that listens at port 8080 of its node"),
            ("gateway build ./gateway --publish 80 --publish-tls 443", "and for HTTPS"),
        ),
        arguments=(Argument("directory", "a new folder"),),
        options=(
            Option(("--publish",), "port of the node for HTTP", kind="int", default=0),
            Option(("--publish-tls",), "port of the node for HTTPS", kind="int", default=0),
            Option(("--version",), "version of the type (default: ours)", default=""),
            Option(("--memory",), "its bound of memory", default="256M"),
            Option(
                ("--allow",),
                "what it may reach outside, as an authority for certificates",
                many=True,
                metavar="HOST:PORT",
            ),
        ),
        more="Push it, then create one on each node that is to be reached: paas push ./gateway; "
        "paas create http-gateway. It joins the group `gateways`; its configuration `group` names "
        "another.",
    ),
)
