"""The configuration of HAProxy, from routes and members.  Pure: the same input, the same text.

    frontend ── which route? (routes.map) ── kind endpoint ──> backend of the route ──> its members
              │     │       └── may not be repeated ──> frontend `once` ──┘
              │     └── all else ──> backend edge: the built-in gateway

To the built-in gateway goes what HAProxy cannot do as it has to be done: operations and static
files; WebSockets, which are closed by a frame and not by a cut (RFC 6455 §7.1.2); bodies of unknown
length, which the route's `body_max` bounds while they stream; paths that are written with needless
escapes (RFC 3986 §6.2.2.2), which have to be read in their normal form; answers to challenges of
certificate authorities; requests that no route fits.

A request that may not be repeated goes through HAProxy twice.  When a member dies with the request
of a connection that was used before, HAProxy closes that connection without a word, so that the
browser asks again, which it must not.  Behind the socket of `once` every request is the first of
its connection, and is answered 502.

Which route: one lookup by exact host, else one for each wildcard that fits, the longest first, else
one for any host; each in one tree by longest prefix.  The key is host, path and `/`, the pattern
host, the route's path and `/`: so a prefix ends where a segment does.

Everything that comes from a route has passed `rules.check`; it is quoted all the same (quoting.py),
and names that stand without quotes are matched again here.

Source: HAProxy 2.6 configuration manual.
"""

from __future__ import annotations

import ipaddress
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus

from paas.gateway.haproxy import limits
from paas.gateway.haproxy.names import EDGE, backend_name, cookie_name
from paas.gateway.haproxy.quoting import formatted, matching, word
from paas.gateway.haproxy.servers import CHECK, POOL, Key, Server
from paas.gateway.haproxy.settings import HaproxySettings
from paas.gateway.messages import Route

CONFIGURATION = "haproxy.cfg"
MAP = "routes.map"
API = "api.sock"
ONCE = "once.sock"
MASTER = "master.sock"
CERTIFICATES = "certificates.list"

_NAME = r"[a-z0-9](?:[a-z0-9._-]{0,126}[a-z0-9])?"
_HOST = r"(?:\*\.)?[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?"
_PATH = r"/[A-Za-z0-9._~!$&'()*+,;=:@/-]*"
_TOKEN = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
_PLACE = r"(?:unix@/[A-Za-z0-9._/-]+|(?:[0-9.]+|\[[0-9a-f:]+\]|\*)?:[0-9]{1,5})"
_FOLDER = r"/[A-Za-z0-9._/-]+"
_NEEDLESS = "%(?:2[DEde]|3[0-9]|[46][1-9A-Fa-f]|[57][0-9Aa]|5[Ff]|7[Ee])"
_AUTHORITY = r"^(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?$"
_CHALLENGES = "/.well-known/acme-challenge/"
_EDGE_HEADERS = "(?:^|,)(?:upgrade|transfer-encoding)(?:,|$)"
"""In a list of names, which HAProxy has in small letters."""

_REQUEST_ID = "%Ts-%pid-%rt"
_REPEATABLE = "method GET HEAD OPTIONS PUT DELETE"
_ONCE = "once"
_SAID = {
    400: "The request is malformed.",
    405: "This route does not take this method.",
    408: "The request did not come in time.",
    413: "The body is too long for this route.",
    429: "Too many requests from this address.",
    500: "The gateway failed at this request.",
    502: "The member that had the request did not answer it.",
    503: "No member can answer at the moment.",
    504: "The member did not answer in time.",
}


def problem(status: int) -> str:
    """A problem document (RFC 9457)."""
    told = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status}
    return json.dumps({**told, "detail": _SAID[status]}, separators=(",", ":"))


def render_map(routes: Iterable[Route]) -> str:
    """Which backend for which host and path; of the same host and path the first name counts."""
    rows: dict[str, str] = {}
    for route in sorted(routes, key=lambda route: route.name):
        host = matching(_HOST, route.host, "host") if route.host else ""
        path = matching(_PATH, route.path, "path").rstrip("/") + "/"
        ours = route.kind != "endpoint" or path.startswith(_CHALLENGES)
        rows.setdefault(f"{host}{_CHALLENGES}", EDGE)
        rows.setdefault(f"{host}{path}", EDGE if ours else backend_name(route))
    return "".join(f"{key} {backend}\n" for key, backend in rows.items())


def render(
    settings: HaproxySettings,
    routes: Iterable[Route],
    servers: Mapping[Key, Server],
    certificates: bool = False,
) -> str:
    """The configuration.  `certificates`: there is a list of them (agent.py writes it)."""
    routes = sorted(routes, key=lambda route: route.name)
    lines = [*_global(settings), *_defaults(settings), *_frontends(settings, routes, certificates)]
    by_backend: dict[str, list[tuple[str, Server]]] = {}
    for (backend, name), server in servers.items():
        by_backend.setdefault(backend, []).append((name, server))
    for route in routes:
        if route.kind == "endpoint":
            some = sorted(by_backend.get(backend_name(route), ()))
            lines += ["", *_backend(settings, route, some)]
    edge = matching(_PLACE, settings.edge, "address") if settings.edge else ""
    lines += _once(settings, routes)
    lines += ["", f"backend {EDGE}", f"  timeout server {int(limits.STREAM_S)}s"]
    lines += ["  http-request set-log-level silent"]  # the built-in gateway logs it
    lines += [f"  server {EDGE} {edge}"] if edge else []
    return "\n".join(lines) + "\n"


def _global(settings: HaproxySettings) -> list[str]:
    folder = matching(_FOLDER, settings.folder, "folder")
    return [
        "global",
        f"  stats socket {folder}/{API} mode 600 level admin expose-fd listeners",
        f"  maxconn {int(settings.connections_max) * settings.frontends}",
        f"  nbthread {int(settings.threads)}",
        f"  hard-stop-after {int(settings.hard_stop_s)}s",
        f"  mworker-max-reloads {limits.OLD_WORKERS_MAX}",
        "  log stdout format raw local0",
        "  ssl-default-bind-options ssl-min-ver TLSv1.2 no-tls-tickets",
        "  ssl-default-bind-ciphers ECDHE+AESGCM:ECDHE+CHACHA20",
    ]


def _defaults(settings: HaproxySettings) -> list[str]:
    return [
        "",
        "defaults",
        "  mode http",
        "  timeout connect " + _ms(limits.CONNECT_S),
        "  timeout client " + _ms(limits.CLIENT_S),
        "  timeout server " + _ms(limits.CLIENT_S),
        "  timeout queue " + _ms(limits.CONNECT_S),
        "  timeout http-request " + _ms(limits.REQUEST_S),
        "  timeout http-keep-alive " + _ms(limits.KEEP_ALIVE_S),
        "  timeout tunnel " + _ms(limits.STREAM_S),
        "  option redispatch 1",
        "  option http-keep-alive",
        "  option srvtcpka",  # a member's machine may vanish without a word
        f"  srvtcpka-idle {limits.UNHEARD_IDLE_S}s",
        f"  srvtcpka-intvl {limits.UNHEARD_INTERVAL_S}s",
        f"  srvtcpka-cnt {limits.UNHEARD_COUNT}",
        "  option idle-close-on-response",  # a reload cuts off nobody who is about to ask
        *(
            f"  http-error status {status} content-type application/problem+json "
            f"string {word(problem(status))}"
            for status in sorted(_SAID)
        ),
    ]


def _frontends(settings: HaproxySettings, routes: list[Route], certificates: bool) -> list[str]:
    """One for HTTP, one for HTTPS: so no request is asked which of them it is."""
    lines: list[str] = []
    if settings.listen:
        lines += ["", "frontend plain"]
        lines += [f"  bind {matching(_PLACE, place, 'address')}" for place in settings.listen]
        lines += _rules(settings, routes, settings.listen, "http")
    if settings.tls and certificates:
        alpn = "h2,http/1.1" if settings.http2 else "http/1.1"
        how = f"ssl crt-list {settings.folder}/{CERTIFICATES} alpn {alpn}"
        lines += ["", "frontend secure"]
        lines += [f"  bind {matching(_PLACE, place, 'address')} {how}" for place in settings.tls]
        lines += _rules(settings, routes, settings.tls, "https")
    return lines


def _rules(
    settings: HaproxySettings, routes: list[Route], places: Sequence[str], scheme: str
) -> list[str]:
    """For every request: this is the path that its speed depends on.

    What is the same for a connection is made once (`_node`), and no header is looked for twice
    where one look at all names will do.
    """
    lines = [f"  maxconn {int(settings.connections_max)}", *_sources(settings), *_node(places)]
    lines += _logged(settings)
    lines += [
        "  option http-restrict-req-hdr-names delete",
        f"  unique-id-format {word(_REQUEST_ID)}",
        "  unique-id-header x-request-id",
        "  http-request deny deny_status 400 "
        f"unless {{ req.fhdr(host) -m reg {word(_AUTHORITY)} }}",
        "  http-request deny deny_status 400 if { req.hdrs -m reg '\\x00' }",
    ]
    hosts = {route.host for route in routes}
    return [
        *lines,
        *_told(settings, scheme),
        *_lookups(settings, hosts),
        "  acl is_bodiless method GET HEAD OPTIONS",
        f"  acl is_repeatable {_REPEATABLE}",
        f"  http-request set-var(txn.backend) {_found(settings, hosts)} if !is_repeatable",
        f"  use_backend {EDGE} if {{ req.hdr_names -m reg {word(_EDGE_HEADERS)} }}",
        f"  use_backend {EDGE} if {{ path -m reg {word(_NEEDLESS)} }}",
        f"  use_backend {EDGE} if !is_bodiless !{{ req.hdr(content-length) -m found }}",
        f"  use_backend {_ONCE} if !is_repeatable {{ var(txn.backend) -m beg r. }}",
        f"  use_backend %[{_found(settings, hosts)}]",
        f"  default_backend {EDGE}",
    ]


def _logged(settings: HaproxySettings) -> list[str]:
    if settings.access_log == "none":
        return []
    return [
        "  log global",
        f"  log-format {word(_log_format())}",
        *(["  option dontlog-normal"] if settings.access_log == "errors" else []),
        "  http-request set-var(txn.path) path,bytes(0,256)",
    ]


def _once(settings: HaproxySettings, routes: list[Route]) -> list[str]:
    """The way of a request that may not be repeated; who asks comes by the PROXY protocol."""
    place = f"unix@{matching(_FOLDER, settings.folder, 'folder')}/{ONCE}"
    hosts = {route.host for route in routes}
    return [
        "",
        f"backend {_ONCE}",
        f"  timeout server {int(limits.STREAM_S)}s",
        "  http-request set-log-level silent",
        "  option http-server-close",
        f"  server {_ONCE} {place} send-proxy-v2",
        "",
        f"frontend {_ONCE}",
        f"  bind {place} mode 600 accept-proxy",
        f"  maxconn {int(settings.connections_max)}",
        *_logged(settings),
        "  unique-id-format %[req.hdr(x-request-id)]",
        *_lookups(settings, hosts),
        f"  use_backend %[{_found(settings, hosts)}]",
        f"  default_backend {EDGE}",
    ]


def _node(places: Sequence[str]) -> list[str]:
    """Who asks, as text, once for a connection: `sess.from`, and the first part of Forwarded.

    RFC 7239 §4; §6: an address of version 6 in brackets and quotes.
    """

    def rule(node: str, condition: str = "") -> str:
        value = word(f'for={node};host="')
        return f"  tcp-request connection set-var-fmt(sess.forwarded) {value}{condition}"

    lines = ["  tcp-request connection set-var-fmt(sess.from) %[src]"]
    if not any(place.startswith(("[", "*")) for place in places):
        return [*lines, rule("%[src]")]
    return [
        *lines,
        rule("%[src]", " if !{ src -m sub : }"),
        rule('"[%[src]]"', " if { src -m sub : }"),
    ]


def _told(settings: HaproxySettings, scheme: str) -> list[str]:
    """What is told of the browser: by this gateway alone, and by proxies that are believed."""
    lines, strange, without = [], "", ""
    if settings.trusted:
        lines.append(f"  acl is_trusted src -- {_networks(settings)}")
        strange, without = " unless is_trusted", " unless is_trusted {{ req.hdr({}) -m found }}"
    lines += [
        f"  http-request del-header {name}{strange}"
        for name in ("x-forwarded- -m beg", "forwarded", "x-real-ip")
    ]
    lines += ["  http-request del-header x-request-id"]
    lines += ["  http-request add-header x-forwarded-for %[var(sess.from)]"]
    for name, value in (
        ("x-forwarded-host", "%[req.fhdr(host)]"),
        ("x-forwarded-proto", scheme),
    ):
        lines.append(f"  http-request add-header {name} {value}{without.format(name)}")
    value = word(f'%[var(sess.forwarded)]%[req.fhdr(host)]";proto={scheme}')
    return [*lines, f"  http-request add-header forwarded {value}"]


def _networks(settings: HaproxySettings) -> str:
    return " ".join(str(ipaddress.ip_network(text, strict=False)) for text in settings.trusted)


def _sources(settings: HaproxySettings) -> list[str]:
    """Connections of one address; those of trusted proxies are many browsers'."""
    lines = [
        f"  stick-table type ipv6 size {limits.SOURCES_MAX} expire 60s store conn_cur",
    ]
    but = ""
    if settings.trusted:
        but = f" !{{ src -- {_networks(settings)} }}"
    most = int(settings.connections_per_source_max)
    return [
        *lines,
        "  tcp-request connection track-sc1 src",
        f"  tcp-request connection reject if {{ sc1_conn_cur gt {most} }}{but}",
    ]


def _tree(settings: HaproxySettings) -> str:
    return f"map_beg({matching(_FOLDER, settings.folder, 'folder')}/{MAP})"


def _found(settings: HaproxySettings, hosts: set[str]) -> str:
    """The name of the backend; one that is none leads to the default."""
    return "var(txn.backend)" if hosts - {""} else f"path,concat(/),{_tree(settings)}"


def _lookups(settings: HaproxySettings, hosts: set[str]) -> list[str]:
    """`txn.host` where it is needed; `txn.backend`, by one tree of prefixes, if hosts differ."""
    named = bool(hosts - {""})
    lines = ["  http-request set-var(txn.host) req.fhdr(host),host_only,lower,rtrim(.)"]
    if not named:
        return lines if settings.access_log != "none" else []
    tree, unknown = _tree(settings), "!{ var(txn.backend) -m found }"
    lines.append("  http-request set-var(txn.below) path,concat(/)")
    if any(host and not host.startswith("*.") for host in hosts):
        lines.append(f"  http-request set-var(txn.backend) var(txn.host),concat(,txn.below),{tree}")
    wild = sorted((h for h in hosts if h.startswith("*.")), key=lambda h: (-h.count("."), h))
    for host in wild:
        name = matching(_HOST, host, "host")
        lines.append(
            f"  http-request set-var(txn.backend) str({name}),concat(,txn.below),{tree} "
            f"if {unknown} {{ var(txn.host) -m end {name[1:]} }}"
        )
    if "" in hosts:
        lines.append(f"  http-request set-var(txn.backend) var(txn.below),{tree} if {unknown}")
    return lines


def _backend(
    settings: HaproxySettings, route: Route, servers: list[tuple[str, Server]]
) -> list[str]:
    matching(_NAME, route.name, "name")
    lines = [f"backend {backend_name(route)}"]
    lines += _balance(settings, route)
    lines += [
        f"  timeout server {_ms(route.timeout_s)}",
        f"  retries {int(route.retries)}",
        "  retry-on conn-failure empty-response" if route.retries else "",
        # Neither is sent again when a member has had it: who is not idempotent is answered 502.
        "" if route.idempotent else f"  http-request disable-l7-retry unless {{ {_REPEATABLE} }}",
        "  http-request set-timeout server "
        + _ms(limits.STREAM_S)
        + " if { req.hdr(accept) -m sub text/event-stream }",
    ]
    lines += _admission(settings, route)
    lines += _path(route)
    lines += [
        f"  http-response set-header {word(matching(_TOKEN, name, 'header'))} {formatted(value)}"
        for name, value in route.headers.items()
    ]
    options = f"{POOL} {CHECK}" if settings.checks else POOL
    lines += [
        f"  server {name} {server.place} id {server.number} weight {server.weight} {options}"
        + ("" if server.serving else " disabled")
        for name, server in servers
    ]
    return [line for line in lines if line]


def _balance(settings: HaproxySettings, route: Route) -> list[str]:
    if route.sticky == "address":
        return ["  balance source", "  hash-type consistent"]
    lines = ["  balance roundrobin"]
    if route.sticky == "cookie":
        key = matching(r"[A-Za-z0-9]{1,128}", settings.cookie_key or "paas", "key")
        attributes = " httponly attr SameSite=Lax"
        lines += [
            f"  cookie {cookie_name(route)} insert indirect nocache dynamic{attributes}",
            f"  dynamic-cookie-key {key}",
        ]
    return lines


def _admission(settings: HaproxySettings, route: Route) -> list[str]:
    """Methods, length and pace of the body, rate of one address."""
    lines = []
    if route.methods:
        methods = " ".join(word(matching(_TOKEN, m, "method")) for m in route.methods)
        allowed = formatted(", ".join(route.methods))
        lines.append(
            "  http-request return status 405 content-type application/problem+json "
            f"string {word(problem(405))} hdr allow {allowed} unless {{ method -- {methods} }}"
        )
    lines.append(
        "  http-request deny deny_status 413 "
        f"if {{ req.hdr_val(content-length) gt {int(route.body_max)} }}"
    )
    lines.append(
        f"  http-request wait-for-body time {_ms(limits.REQUEST_S)} "
        f"at-least {limits.BODY_FIRST_BYTES}"
    )
    if route.rate > 0:
        period = 1 if route.rate >= limits.RATE_PERIOD_S else limits.RATE_PERIOD_S
        most = max(1, math.ceil(route.rate * period))
        lines += [
            f"  stick-table type ipv6 size {limits.RATE_SOURCES_MAX} expire {period * 2}s "
            f"store http_req_rate({period}s)",
            *(["  acl is_trusted src -- " + _networks(settings)] if settings.trusted else []),
            *(["  http-request track-sc0 src if !is_trusted"] if settings.trusted else []),
            # The last that is not ours: that of the proxy itself has been added.
            "  http-request track-sc0 hdr_ip(x-forwarded-for,-2)"
            if settings.trusted
            else "  http-request track-sc0 src",
            "  http-request return status 429 content-type application/problem+json "
            f"string {word(problem(429))} hdr retry-after {period} "
            f"if {{ sc_http_req_rate(0) gt {most} }}",
        ]
    return lines


def _path(route: Route) -> list[str]:
    """Without the route's prefix, if that is stripped."""
    prefix = matching(_PATH, route.path, "path").rstrip("/")
    if not route.strip_prefix or not prefix:
        return []
    return [
        f"  http-request set-path %[path,bytes({len(prefix)})] "
        f"if {{ path -m beg {word(prefix + '/')} }}",
        f"  http-request set-path / if {{ path -m str {word(prefix)} }}",
    ]


def _log_format() -> str:
    """One JSON object a request, with the names of the built-in gateway's access log."""
    return (
        '{"message":"%[method,json(utf8s)] %[var(txn.path),json(utf8s)] %ST",'
        '"level":"info","event":"http.request",'
        '"request_id":"%ID","remote":"%ci","method":"%[method,json(utf8s)]",'
        '"host":"%[var(txn.host),json(utf8s)]","path":"%[var(txn.path),json(utf8s)]",'
        '"route":"%[be_name,field(2,.,0)]","member":"%s","status":%ST,"received":%U,'
        '"sent":%B,"duration_ms":%Ta,"outcome":"%tsc"}'
    )


def _ms(seconds: float) -> str:
    return f"{max(1, round(seconds * 1000))}ms"
