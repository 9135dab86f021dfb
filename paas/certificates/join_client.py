"""What a machine decides and keeps while it becomes a node; `client.join` does the talking.

    Joiner(token, …)   the directory is free or ours, the key is made and kept before anything else
      .check_server    is this the token's cluster?  Nothing is sent to anybody else
      .request         the same each time: same token, same key
      .accept          the chain is for our key and name and of that cluster: write it down

The key never leaves the directory.  It is written first and stays until the node is taken in, so
that whoever was cut off, at any moment, repeats the same request and gets the same right; the chain
is written last, and makes the directory that of a node.

A certificate that is refused for its time only is a wrong clock, on one side or the other: the
error says so, and by how much.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from paas.base.errors import PlatformError, invalid
from paas.base.ports import Clock, Files
from paas.certificates import messages, node_chain
from paas.certificates.join_terms import check_address, clocks_differ
from paas.certificates.limits import JOIN_PROTOCOL
from paas.certificates.state import Store
from paas.identity import csr, join_tokens, x509
from paas.identity.keys import Malformed, PrivateKey, fingerprint, make_key
from paas.identity.limits import CHAIN_CERTIFICATES_MAX, CLOCK_SKEW_S
from paas.identity.names import HUB, check_cluster, check_node
from paas.identity.verify import Trust, verify

_SKEW_MS = CLOCK_SKEW_S * 1_000


@dataclass(frozen=True, slots=True)
class JoinedCluster:
    """What a new node needs to know: its cluster, its name, and where the other hubs are."""

    cluster: str
    node: str
    peers: dict[str, str]


class Joiner:
    """One machine on its way into a cluster.  Raises `invalid`, `conflict`, `corrupt`."""

    def __init__(
        self,
        token: str,
        *,
        node: str,
        listen_address: str,
        files: Files,
        clock: Clock,
        version: str = "",
    ) -> None:
        parsed = join_tokens.parse(token)
        if parsed is None:
            raise PlatformError(
                "invalid",
                "token: this is not a join token, or not the whole of one",
                hint="copy the whole line that `paas cluster token` printed",
                field="token",
            )
        check_node(node)
        check_address(listen_address)
        self._token = parsed
        self._node = node
        self._address = listen_address
        self._clock = clock
        self._version = version
        self._store = Store(files)
        self._cluster = ""
        _check_free(self._store, parsed.authority, node)
        self._key = _kept_key(self._store)

    def check_server(self, shown: Sequence[bytes]) -> None:
        """Is this a hub of the token's cluster?  Raises `untrusted`, or `refused` for the clock."""
        try:
            certificates = [x509.read_certificate(one) for one in shown[:CHAIN_CERTIFICATES_MAX]]
            root = self._root(certificates)
            cluster = dict(x509.facts(root).subject).get("DC", "")
            check_cluster(cluster)
        except (Malformed, PlatformError) as exc:
            raise _another_cluster(str(exc)) from None
        trusted = Trust(cluster, (root,))

        def check(now_ms: int) -> None:
            verdict = verify(shown[0], trusted, now_ms, {HUB}, chain=shown[1:])
            if not verdict.accepted:
                raise _another_cluster(verdict.reason)

        self._check_in_time(check, certificates)
        self._cluster = cluster

    def request(self) -> messages.Join:
        """What to send, once `check_server` has said yes."""
        return messages.Join(
            token=self._token.reveal(),
            node=self._node,
            request=csr.make_node(self._cluster, self._node, self._key).decode(),
            address=self._address,
            time_ms=self._clock.now_ms(),
            protocol=JOIN_PROTOCOL,
            version=self._version,
        )

    def accept(self, answer: messages.Joined) -> JoinedCluster:
        """Check the answer and write it down; raises `untrusted`, `refused`, `storage-full`."""
        if answer.cluster != self._cluster:
            raise node_chain.untrusted("the answer names another cluster")
        check_peers(answer.peers)
        chain = node_chain.read(answer.chain.encode())

        def check(now_ms: int) -> None:
            node_chain.check(
                chain,
                cluster=self._cluster,
                node=self._node,
                key=self._key.public_key(),
                authority=self._token.authority,
                now_ms=now_ms,
            )

        self._check_in_time(check, [chain.certificate, chain.root])
        if self._store.load_issued() is None:
            self._store.save_issued([])
        self._store.save_node_chain(chain)
        return JoinedCluster(self._cluster, self._node, dict(answer.peers))

    def _root(self, certificates: Sequence[x509.Certificate]) -> x509.Certificate:
        for one in certificates[1:]:
            known = fingerprint(x509.public_key(one)) == self._token.authority
            if known and x509.signed_by(one, one):
                return one
        raise Malformed("the authority is another one")

    def _check_in_time(
        self, check: Callable[[int], None], certificates: Sequence[x509.Certificate]
    ) -> None:
        """Run a check now; if it would pass at another time, the clock is what is wrong."""
        now_ms = self._clock.now_ms()
        try:
            check(now_ms)
        except PlatformError as refusal:
            facts = [x509.facts(one) for one in certificates]
            begin_ms, end_ms = max(f.begin_ms for f in facts), min(f.end_ms for f in facts)
            if begin_ms - _SKEW_MS <= now_ms <= end_ms + _SKEW_MS:
                raise
            try:
                check(begin_ms)
            except PlatformError:
                raise refusal from None
            nearest_ms = begin_ms if now_ms < begin_ms else end_ms
            ahead_s = round((now_ms - nearest_ms) / 1_000)
            raise clocks_differ(ahead_s, at_least=True) from None


def check_peers(peers: dict[str, str]) -> None:
    """Raise `invalid` unless these are names of nodes and addresses."""
    for name, address in peers.items():
        try:
            check_node(name)
            check_address(address)
        except PlatformError:
            raise invalid("peers", "expected names of nodes with host:port") from None


def _check_free(store: Store, authority: str, node: str) -> None:
    """Raise `conflict` when the directory belongs to another cluster, node, or began one."""
    if store.load_authority() is not None:
        raise _taken("this state directory began a cluster of its own")
    chain = store.load_node_chain()
    if chain is None:
        return
    if fingerprint(x509.public_key(chain.root)) != authority:
        raise _taken("this state directory belongs to a node of another cluster")
    stated = dict(x509.facts(chain.certificate).subject).get("OU", "")
    if stated != node:
        raise _taken(f"this state directory belongs to the node {stated} of this cluster")


def _taken(why: str) -> PlatformError:
    return PlatformError("conflict", why, hint="name another state directory: --state DIR")


def _kept_key(store: Store) -> PrivateKey:
    key = store.load_node_key()
    if key is None:
        key = make_key()
        store.save_node_key(key)
    return key


def _another_cluster(reason: str) -> PlatformError:
    return PlatformError(
        "untrusted",
        f"who answers there is not a node of the token's cluster: {reason}; nothing was sent to it",
        hint="check the address, and that the token was made by this cluster",
        reason=reason,
    )
