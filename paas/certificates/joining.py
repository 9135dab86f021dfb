"""A node asks to be let in: who answers, and in which order things are decided.

    new node                      a hub of the cluster                    holder of the key
       │ TLS, no certificate ──────>│ shows its chain up to the authority
       │ fingerprint as in token?   │
       │ join(token, node, request) │ version? names? request? clock?
       │ ──────────────────────────>│ may the node have that name?
       │                            │ log: use the token            (one winner)
       │                            │ certify(request, node) ─────────────>│
       │<── chain, peers ───────────│<───────────────────── chain ─────────│

Whoever asks is a stranger until the log has accepted the token.  Until then it learns what
everybody may know (the version, our clock) and nothing of the cluster; whatever is wrong with a
token is one text for it and a reason in our log (`Notice`).  That a name is taken is told to
holders of a good token only, whose token stays unused.

Attempts that are refused are counted by address and in all, as each may cost an entry of the log;
who has too many is not listened to for a while.  The same request may come again, as the answer may
be lost: the log and the holder of the key repeat themselves for the same key.

Waits for what it is given, and for nothing else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from paas.base.errors import PlatformError, invalid
from paas.base.ports import Clock
from paas.certificates import messages
from paas.certificates.join_state import UseJoinToken
from paas.certificates.join_terms import check_address, clocks_differ
from paas.certificates.limits import (
    JOIN_CLOCK_S_MAX,
    JOIN_FAILURES_ALL_MAX,
    JOIN_FAILURES_MAX,
    JOIN_FAILURES_S,
    JOIN_PROTOCOL,
)
from paas.identity import csr, join_tokens
from paas.identity.keys import Malformed, fingerprint
from paas.identity.names import check_node

_STRANGER_HEARS = "the cluster refuses this join token: it is wrong, used, expired or revoked"


class Notice(Protocol):
    """Where events go: a log."""

    def __call__(self, event: str, **fields: object) -> None: ...


class Failures:
    """Refused attempts of the last while, by address and in all."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._attempts: deque[tuple[float, str]] = deque()

    def check(self, source: str) -> None:
        """Raise `limit-exceeded` when this address, or all together, were refused too often."""
        since_s = self._clock.monotonic_s() - JOIN_FAILURES_S
        while self._attempts and self._attempts[0][0] <= since_s:
            self._attempts.popleft()
        mine = sum(1 for _, other in self._attempts if other == source)
        if mine >= JOIN_FAILURES_MAX or len(self._attempts) >= JOIN_FAILURES_ALL_MAX:
            raise PlatformError(
                "limit-exceeded",
                "too many attempts to join were refused",
                hint=f"wait {JOIN_FAILURES_S:.0f} seconds",
            )

    def count(self, source: str) -> None:
        self._attempts.append((self._clock.monotonic_s(), source))


class JoinService:
    """Answers `cluster.join` on one hub.

    `propose` puts a command into the log and returns its result; `certify(request, node)` has the
    holder of the key certify a node and returns the chain (PEM); `peers()` are the nodes of the
    cluster with the addresses of their hubs; `check(node, key, address)` raises when the node may
    not have that name or address (the same key may come again).  All raise PlatformError.
    """

    def __init__(
        self,
        cluster: str,
        *,
        propose: Callable[[Any], Awaitable[Any]],
        certify: Callable[[str, str], Awaitable[str]],
        peers: Callable[[], dict[str, str]],
        check: Callable[[str, str, str], None],
        clock: Clock,
        notice: Notice,
        version: str = "",
    ) -> None:
        self._cluster = cluster
        self._propose = propose
        self._certify = certify
        self._peers = peers
        self._check = check
        self._clock = clock
        self._notice = notice
        self._version = version
        self._failures = Failures(clock)

    async def join(self, params: messages.Join, source: str = "") -> messages.Joined:
        """Let a node in.  `source` is the address it asks from.

        Raises `denied` (the token), `conflict` (the name), `refused` (its clock), `unsupported`
        (its version), `invalid`, `limit-exceeded`, and what `propose` and `certify` raise.
        """
        self._failures.check(source)
        try:
            self._check_protocol(params)
            check_node(params.node)
            check_address(params.address)
            self._check_clock(params.time_ms)
            key = self._key(params)
            token = join_tokens.parse(params.token)
            if token is None:
                raise _denied("not a token")
            await self._use(params, token, key)
        except PlatformError as exc:
            raise self._refuse(exc, params, source) from None
        chain = await self._certify(params.request, params.node)
        self._notice("node-joined", node=params.node, key=key, source=source, token=token.id)
        return messages.Joined(
            cluster=self._cluster,
            chain=chain,
            peers=self._peers(),
            time_ms=self._clock.now_ms(),
            version=self._version,
        )

    async def _use(self, params: messages.Join, token: join_tokens.JoinToken, key: str) -> None:
        """Use the token; when the name is taken, say so if the token is good, and leave it so."""
        taken: PlatformError | None = None
        try:
            self._check(params.node, key, params.address)
        except PlatformError as exc:
            taken = exc
        use = UseJoinToken(
            token_id=token.id,
            digest=token.digest(),
            node=params.node,
            key=key,
            address=params.address,
            check_only=taken is not None,
        )
        try:
            await self._propose(use)
        except PlatformError as exc:
            # The token is good, and was good for another machine of that name: old news by now.
            if taken is not None and exc.code == "conflict":
                raise taken from None
            raise
        if taken is not None:
            raise taken

    def _check_protocol(self, params: messages.Join) -> None:
        if params.protocol != JOIN_PROTOCOL:
            raise PlatformError(
                "unsupported",
                f"the cluster (version {self._version or 'unknown'}) speaks version {JOIN_PROTOCOL}"
                f" of the joining protocol, this node version {params.protocol}",
                hint="install the cluster's version of the platform on the node",
            )

    def _check_clock(self, time_ms: int) -> None:
        ahead_s = round((time_ms - self._clock.now_ms()) / 1_000)
        if abs(ahead_s) > JOIN_CLOCK_S_MAX:
            raise clocks_differ(ahead_s)

    def _key(self, params: messages.Join) -> str:
        """The fingerprint of the key for which the node wants a certificate."""
        try:
            asked = csr.read_node(params.request.encode())
        except Malformed as exc:
            raise invalid("request", str(exc)) from None
        if (asked.cluster, asked.node) != (self._cluster, params.node):
            raise invalid("request", f"expected one for {params.node} of {self._cluster}")
        return fingerprint(asked.key)

    def _refuse(self, exc: PlatformError, params: messages.Join, source: str) -> PlatformError:
        if exc.code in ("denied", "conflict", "invalid"):
            self._failures.count(source)
        reason = str(exc.data.get("reason", exc.message))
        self._notice(
            "join-refused", node=params.node[:64], source=source, code=exc.code, reason=reason
        )
        if exc.code != "denied":
            return exc
        return PlatformError("denied", _STRANGER_HEARS, hint="make a new one: paas cluster token")


def _denied(reason: str) -> PlatformError:
    return PlatformError("denied", f"the join token is refused: {reason}", reason=reason)
