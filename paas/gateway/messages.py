"""Messages about routes and gateways.  Numbers 700-709.

A **route** says which requests from outside go to which group.  It is also a grant: components of
the route's group of gateways, whose manifests say `gateway = true`, may reach the endpoint, or call
the operations, of the members of the route's group, and nothing else.  A **gateway** is told of its
routes and their members (`gateway.follow`) and says when it has stopped using a member that leaves
(`gateway.acknowledge`).  The envelope of operation routes is in docs/internals/world/gateway.md.
"""

from __future__ import annotations

from typing import Literal

from paas.gateway import limits
from paas.wire.registry import Message, Nothing, Params, method

Kind = Literal["endpoint", "operation", "static"]
Sticky = Literal["", "cookie", "address"]
MemberState = Literal["serving", "leaving", "gone"]

DATA_PATH = "data_path"
"""The attribute by which a gateway says who carries requests of its endpoint routes."""


class Route(Message, frozen=True, kw_only=True):
    """Which requests go where.  Times in seconds, sizes in bytes.

    Of the routes that match a request the one with the most exact `host` counts, then the longest
    `path`, then the first name.
    """

    name: str
    """`application.route`, or what the operator has chosen."""
    group: str = ""
    """Whose members answer; empty for kind `static`."""
    application: str = ""
    """The application it belongs to; empty for an operator's own."""
    gateway: str = "gateways"
    """The group of the gateways that serve it."""
    host: str = ""
    """Empty for any, exact, or `*.example.org` for one or more labels below; no port."""
    path: str = "/"
    """A prefix that ends at a segment: `/a` is `/a` and `/a/b`, not `/ab`."""
    kind: Kind = "endpoint"
    endpoint: str = "http"
    """Name of the members' endpoint, for kind `endpoint`."""
    operation: str = "http"
    """Name of the members' operation, for kind `operation`; its connections use `<operation>.open`,
    `<operation>.message` and `<operation>.close`."""
    directory: str = ""
    """For kind `static`: a folder within the gateway's own `static` folder."""
    methods: tuple[str, ...] = ()
    """HTTP methods that pass, in capitals; empty: all."""
    idempotent: bool = False
    """A request that was begun and not answered may be repeated, whatever its method."""
    timeout_s: float = limits.TIMEOUT_S_DEFAULT
    """From the request's last byte to the answer's first."""
    retries: int = limits.RETRIES_DEFAULT
    """Other members that are tried after a failure, when a repetition is safe."""
    body_max: int = limits.BODY_BYTES_DEFAULT
    """Longest request body; of kind `operation` at most 3 MiB pass in any case."""
    sticky: Sticky = ""
    """Keep a client with its member: by a cookie of the gateway, or by the client's address."""
    weight_by: str = "version"
    """What `weights` are about: `version` or `type` of a member, or durable `attribute:<name>`."""
    weights: dict[str, int] = {}
    """Value → weight, relative; 0 gets nothing new; `""` is every other value.  Without an entry
    the weight is 0, without any table 100."""
    websocket: bool = False
    """Whether upgrades to WebSocket pass."""
    drain_s: float = limits.DRAIN_S_DEFAULT
    """How long what a leaving member has begun may go on; its WebSockets are closed (1001) then."""
    drain_notice: str = ""
    """A text message for the WebSockets' clients when their member leaves; empty: none."""
    strip_prefix: bool = False
    """The member sees the path without the route's."""
    rate: float = 0.0
    """Requests a second from one source address; 0: no bound."""
    headers: dict[str, str] = {}
    """Set in every answer."""


class RouteMember(Message, frozen=True, kw_only=True, omit_defaults=False):
    """One member of a route's group, as a gateway sees it; it may be in several routes.

    For kind `operation`, and while no path is open yet, `host` is empty and `port` 0.
    """

    route: str
    component: str
    incarnation: int
    node: str
    host: str
    port: int
    state: MemberState
    weight: int
    drain_until: float = 0.0
    """While it leaves: seconds since the Unix epoch."""
    drain_s: float = 0.0
    """The same from the moment of this message, for who does not trust its clock."""


class SetRoute(Params, frozen=True, kw_only=True):
    """Make a route, or change the one of this name; gateways know it at once."""

    route: Route


class RemoveRoute(Params, frozen=True, kw_only=True):
    """Forget a route; requests under way are answered."""

    name: str


class ListRoutes(Params, frozen=True, kw_only=True):
    """List the routes; of one application or group of gateways, if given."""

    application: str = ""
    gateway: str = ""


class RouteInfo(Message, frozen=True, kw_only=True, omit_defaults=False):
    """A route, since when it is like this, and how many members answer and leave now."""

    route: Route
    since: float
    serving: int
    leaving: int


class Routes(Message, frozen=True, kw_only=True, omit_defaults=False):
    """The routes, by name."""

    routes: list[RouteInfo]


class ShowRoute(Params, frozen=True, kw_only=True):
    """One route, with its members."""

    name: str


class RouteShown(Message, frozen=True, kw_only=True, omit_defaults=False):
    """A route, and every member with its state."""

    route: Route
    since: float
    members: list[RouteMember]


class Status(Params, frozen=True, kw_only=True):
    """Who follows which routes, and which members leave at the moment."""


class GatewayInfo(Message, frozen=True, kw_only=True, omit_defaults=False):
    """A component that follows routes.  `urls`: where its endpoints can be reached; `data_path`:
    who carries requests of endpoint routes, and why if it is not HAProxy."""

    component: str
    name: str
    node: str
    state: str
    groups: list[str]
    routes: int
    urls: list[str]
    data_path: str


class DepartureInfo(Message, frozen=True, kw_only=True, omit_defaults=False):
    """A member that leaves, until when at the latest, and the gateways it still waits for."""

    component: str
    incarnation: int
    until: float
    waiting: list[str]


class GatewayStatus(Message, frozen=True, kw_only=True, omit_defaults=False):
    """All gateways and departures."""

    gateways: list[GatewayInfo]
    departures: list[DepartureInfo]


class Follow(Params, frozen=True, kw_only=True):
    """Be told of the routes of the groups of gateways that the caller is in, and their members.

    Only for components whose manifest says `gateway = true`.  The answer is everything as it is;
    what changes comes as `component.event` of this watch, `changed` with a `TableChange` in `data`.
    After a hub was lost, the event `resumed` has a new answer in `data`; it replaces all.
    """


class Table(Message, frozen=True, kw_only=True, omit_defaults=False):
    """All routes of a gateway, and their members that serve or leave."""

    routes: list[Route]
    members: list[RouteMember]


class EndedMember(Message, frozen=True, kw_only=True, omit_defaults=False):
    """An incarnation of a component that is over: it answers nothing any more, on any route."""

    component: str
    incarnation: int


class TableChange(Message, frozen=True, kw_only=True, omit_defaults=False):
    """What is different: these routes and members are like this now.

    `removed` routes are gone with their members; a member that is no more has the state `gone`.
    One that is gone may live, and answer what was sent to it before; those `ended` do not.
    """

    routes: list[Route] = []
    removed: list[str] = []
    members: list[RouteMember] = []
    ended: list[EndedMember] = []


class Following(Message, frozen=True, kw_only=True, omit_defaults=False):
    """The watch's number, the table now, and the log index it is from."""

    watch: int
    snapshot: Table
    index: int


class Acknowledge(Params, frozen=True, kw_only=True):
    """Say that nothing new is sent to a member that leaves, and all that was sent is answered.

    Harmless to repeat, and for a member that does not leave (any more).
    """

    component: str
    incarnation: int


SET = method(700, "gateway.set_route", SetRoute, Nothing)
REMOVE = method(701, "gateway.remove_route", RemoveRoute, Nothing)
LIST = method(702, "gateway.routes", ListRoutes, Routes)
SHOW = method(703, "gateway.route", ShowRoute, RouteShown)
STATUS = method(704, "gateway.status", Status, GatewayStatus)
FOLLOW = method(705, "gateway.follow", Follow, Following)
ACKNOWLEDGE = method(706, "gateway.acknowledge", Acknowledge, Nothing)


# -- the envelope of operation routes: inputs and outputs of calls, not methods of the platform ----


class HttpRequest(Message, frozen=True, kw_only=True, omit_defaults=False):
    """Inputs of `<operation>` and `<operation>.open`; the body is the attachment `body`."""

    method: str
    path: str
    """As the client wrote it, escapes included; without the route's prefix if it is stripped."""
    query: str
    headers: list[tuple[str, str]]
    """Lower-case names, in the order they came; hop-by-hop ones are left out."""
    host: str
    scheme: Literal["http", "https"]
    remote: str
    """The client's address."""
    request_id: str
    route: str
    connection: str
    """Names the answer, if it is to go on after this one (`stream`), or the WebSocket."""


class HttpAnswer(Message, frozen=True, kw_only=True, omit_defaults=False):
    """Outputs of `<operation>`; the body is the attachment `body`.

    With `stream` the answer goes on: pieces come with `gateway.send` until one has the kind `end`.
    Of `<operation>.open` the status 101 accepts the WebSocket, with the subprotocol `protocol`; any
    other is the answer.
    """

    status: int = 200
    headers: list[tuple[str, str]] = []
    stream: bool = False
    protocol: str = ""


class HttpMessage(Message, frozen=True, kw_only=True, omit_defaults=False):
    """Inputs of the cast `<operation>.message`: a WebSocket's message, `text`, or binary in the
    attachment `data`.
    """

    connection: str
    kind: Literal["text", "binary"]
    text: str = ""


class HttpClose(Message, frozen=True, kw_only=True, omit_defaults=False):
    """Inputs of the cast `<operation>.close`: the connection is over, for whatever reason."""

    connection: str
    code: int = 1000
    reason: str = ""


class HttpSend(Message, frozen=True, kw_only=True):
    """Inputs of the gateway's operation `gateway.send`.

    `text` and `binary` (attachment `data`) are messages of a WebSocket, `close` ends it; `body`
    (`text`, or attachment `data`) is a piece of an answer with `stream`, `end` its end.
    """

    connection: str
    kind: Literal["text", "binary", "close", "body", "end"]
    text: str = ""
    code: int = 1000
    reason: str = ""


SEND_OPERATION = "gateway.send"
BODY = "body"
DATA = "data"
"""Names of attachments."""
