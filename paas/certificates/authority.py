"""The authorities of a node: made or found at the start, then they decide and sign.

    cluster's authority   its key is on the node that began the cluster, and nowhere else
     └─ node authority    one a node, its key is made there; signs the agents of this node only
         └─ agents

    open_authority           find what is on disk, or make it; refuse what is neither
    Authority.issue          an agent's certificate, put on record before it is given out
    Authority.certify_node   the certificate of a node's authority (where the cluster's key is)
    Authority.install        a successor of this node's own certificate (where it is not)

What a node holds is told by its files alone: with the cluster's key it is the holder, with a node
authority only it has joined, with nothing it begins a cluster.  The holder renews its own node
authority by itself; the key of a node authority stays the same as long as the node is one.

May this requester have this certificate?  `refusal` answers; it knows the name that was granted and
the name that was asked for.  How the grant came about (a token, an older certificate) is
`manager`'s.

Invariant: a certificate that left this module is on record on disk, with a serial number of its
own, until it ends.  So a crash can lose an answer, never a record.  The holder has the certificate
of its own node authority on record too, which tells a holder that lost its key from a joined node.
"""

from __future__ import annotations

from dataclasses import dataclass

from paas.base.errors import LocalError, PlatformError
from paas.base.ports import Clock, Entropy
from paas.certificates import node_chain
from paas.certificates.lifecycle import CERTIFICATE, CertificateEvent
from paas.certificates.limits import (
    AUTHORITY_LIFE_S,
    ISSUED_MAX,
    NODE_AUTHORITY_LIFE_S,
    SERIAL_DRAWS_MAX,
)
from paas.certificates.node_chain import NodeChain
from paas.certificates.state import (
    AUTHORITY_FILE,
    ISSUED_FILE,
    NODE_AUTHORITY_FILE,
    NODE_KEY_FILE,
    Record,
    Store,
)
from paas.identity import capabilities, csr, x509
from paas.identity.csr import Asked, NodeAsked
from paas.identity.keys import PrivateKey, PublicKey, fingerprint, make_key
from paas.identity.limits import SERIAL_BYTES
from paas.identity.names import AgentName, node_from_uri, node_uri
from paas.identity.rotation import should_rotate
from paas.identity.verify import Trust


def refusal(granted: AgentName, asked: Asked) -> str:
    """Why this request does not get the certificate that was granted; empty: it does."""
    if asked.name != granted:
        return f"asks for {asked.name}, was granted {granted}"
    if granted.subsystem not in capabilities.OF_ROLE:
        return f"no role is called {granted.subsystem}"
    return ""


@dataclass(frozen=True, slots=True)
class Held:
    """What the directory of a node holds.  `root_key` is there on the holder only."""

    root: x509.Certificate
    root_key: PrivateKey | None
    key: PrivateKey
    certificate: x509.Certificate | None


class Authority:
    """The authorities of one node, with the records of what they signed."""

    def __init__(
        self,
        cluster: str,
        node: str,
        held: Held,
        records: list[Record],
        *,
        store: Store,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self.cluster = cluster
        self.node = node
        self._root_key = held.root_key
        self._key = held.key
        self._records = {record.serial: record for record in records}
        self._store = store
        self._clock = clock
        self._entropy = entropy
        self._trust_root(held.root)
        if held.certificate is None:
            self._certify_self()
        else:
            self._use(held.certificate)

    @property
    def holder(self) -> bool:
        """Is the key of the cluster's authority here?"""
        return self._root_key is not None

    @property
    def certificates(self) -> int:
        """Certificates of agents on record."""
        return sum(1 for record in self._records.values() if not node_from_uri(record.name))

    @property
    def renewal_due(self) -> bool:
        """Is half of the life of this node's authority over?"""
        return should_rotate(self._clock.now_ms(), self.node_facts.begin_ms, self.node_facts.end_ms)

    def knows(self, serial: int) -> bool:
        return _serial_text(serial) in self._records

    # -- agents of this node ---------------------------------------------------------------------

    def issue(
        self, name: AgentName, asked: Asked, *, life_s: int, renews: int | None = None
    ) -> str:
        """A certificate (PEM) for a name and a key, with that of the node's authority after it.

        `renews` is the serial it takes the place of.  Raises `limit-exceeded` when too many are on
        record, `storage-full` when it cannot be, `untrusted` when an authority has expired.
        """
        self.keep()
        life_s = self._life_s(life_s, self.node_facts, "the authority of this node")
        records, serial = self._next_record()
        leaf = x509.make_leaf(
            x509.Authority(self._certificate, self._key),
            name,
            asked.key,
            serial=serial,
            now_ms=self._clock.now_ms(),
            life_s=life_s,
            capabilities=capabilities.OF_ROLE[name.subsystem],
        )
        old = records.get(_serial_text(renews)) if renews is not None else None
        if old is not None:
            state = CERTIFICATE.next(old.state, CertificateEvent.RENEW)
            records[old.serial] = Record(
                serial=old.serial, name=old.name, key=old.key, end_ms=old.end_ms, state=state
            )
        self._record(records, leaf, name.uri, asked.key)
        return x509.certificate_pem(leaf).decode() + self.node_pem

    def keep(self) -> None:
        """Renew this node's authority if that is due and can be done here."""
        if self.holder and self.renewal_due:
            self._certify_self()

    # -- authorities of nodes --------------------------------------------------------------------

    def certify_node(self, asked: NodeAsked) -> str:
        """The certificate of a node's authority and the cluster's, PEM (holder only).

        Raises `unsupported` where the key is not, `conflict` for a name that is the holder's own,
        and as `issue`.
        """
        if self._root_key is None:
            raise PlatformError(
                "unsupported",
                "the key of the cluster's authority is not on this node",
                hint="ask the node that began the cluster",
            )
        ours = fingerprint(self._key.public_key())
        if asked.node == self.node and fingerprint(asked.key) != ours:
            raise PlatformError("conflict", f"the name {self.node} belongs to another node")
        return x509.certificate_pem(self._certify(asked.node, asked.key)).decode() + self.pem

    def node_request(self) -> str:
        """The request (PEM) for the successor of this node's authority."""
        return csr.make_node(self.cluster, self.node, self._key).decode()

    def install(self, chain_pem: str) -> None:
        """Take over a successor of this node's authority.  Raises `untrusted`, `storage-full`."""
        chain = node_chain.read(chain_pem.encode())
        self._checked(chain)
        if x509.facts(chain.certificate).end_ms < self.node_facts.end_ms:
            raise node_chain.untrusted("it ends before the one that is there")
        self._store.save_node_chain(chain)
        self._trust_root(chain.root)
        self._use(chain.certificate)

    def _checked(self, chain: NodeChain) -> None:
        node_chain.check(
            chain,
            cluster=self.cluster,
            node=self.node,
            key=self._key.public_key(),
            authority=self.fingerprint,
            now_ms=self._clock.now_ms(),
        )

    def _certify_self(self) -> None:
        certificate = self._certify(self.node, self._key.public_key())
        self._store.save_node_chain(NodeChain(certificate, self.root))
        self._use(certificate)

    def _certify(self, node: str, key: PublicKey) -> x509.Certificate:
        if self._root_key is None:
            raise LocalError("only the holder of the key certifies nodes")
        life_s = self._life_s(NODE_AUTHORITY_LIFE_S, self.facts, "the cluster's authority")
        records, serial = self._next_record()
        certificate = x509.make_node_authority(
            x509.Authority(self.root, self._root_key),
            self.cluster,
            node,
            key,
            serial=serial,
            now_ms=self._clock.now_ms(),
            life_s=life_s,
        )
        self._record(records, certificate, node_uri(self.cluster, node), key)
        return certificate

    def _use(self, certificate: x509.Certificate) -> None:
        self._certificate = certificate
        self.node_facts = x509.facts(certificate)
        self.node_pem = x509.certificate_pem(certificate).decode()

    def _trust_root(self, root: x509.Certificate) -> None:
        self.root = root
        self.trust = Trust(self.cluster, (root,))
        self.facts = x509.facts(root)
        self.pem = x509.certificate_pem(root).decode()
        self.fingerprint = fingerprint(x509.public_key(root))

    # -- records ---------------------------------------------------------------------------------

    def _life_s(self, wanted_s: int, signer: x509.Facts, what: str) -> int:
        """What outlives its signer would be refused when that ends."""
        life_s = min(wanted_s, (signer.end_ms - self._clock.now_ms()) // 1_000)
        if life_s <= 0:
            raise PlatformError("untrusted", f"{what} has expired")
        return life_s

    def _next_record(self) -> tuple[dict[str, Record], int]:
        """The records that have not ended, with room for one more, and its serial number."""
        now_ms = self._clock.now_ms()
        records = {s: r for s, r in self._records.items() if not _ended(r, now_ms)}
        if len(records) >= ISSUED_MAX:
            raise PlatformError("limit-exceeded", f"{ISSUED_MAX} certificates are on record")
        for _ in range(SERIAL_DRAWS_MAX):
            serial = new_serial(self._entropy)
            if _serial_text(serial) not in records:
                return records, serial
        raise LocalError("the entropy port repeats itself")

    def _record(
        self,
        records: dict[str, Record],
        certificate: x509.Certificate,
        name: str,
        key: PublicKey,
    ) -> None:
        facts = x509.facts(certificate)
        text = _serial_text(facts.serial)
        records[text] = Record(serial=text, name=name, key=fingerprint(key), end_ms=facts.end_ms)
        self._store.save_issued(list(records.values()))
        self._records = records


def open_authority(
    cluster: str,
    node: str,
    store: Store,
    clock: Clock,
    entropy: Entropy,
    *,
    may_begin: bool = True,
) -> tuple[Authority, bool]:
    """The authorities of this state directory, and whether the cluster's was made now.

    `may_begin`: an empty directory begins a cluster; else it is `corrupt`.

    Raises `corrupt` when files are damaged or one of them is missing, `conflict` when they are of
    another cluster or node, or of a joining that was not finished, `untrusted` when an authority
    has expired.
    """
    records = store.load_issued()
    made = False
    if _is_empty(store):
        if records:
            raise _incomplete(AUTHORITY_FILE, ISSUED_FILE)
        if not may_begin:
            raise _gone()
        store.save_issued([])
        records, made = [], True
        store.save_authority(_make(cluster, clock, entropy))
    held = _load(store, records, clock, entropy)
    if records is None:
        raise _incomplete(ISSUED_FILE, AUTHORITY_FILE if held.root_key else NODE_AUTHORITY_FILE)
    _check(held, cluster, node, clock.now_ms())
    authority = Authority(cluster, node, held, records, store=store, clock=clock, entropy=entropy)
    authority.keep()
    return authority, made


def new_serial(entropy: Entropy) -> int:
    """A random positive serial number."""
    return int.from_bytes(entropy.bytes(SERIAL_BYTES), "big") >> 1 or 1


def _is_empty(store: Store) -> bool:
    """Is nothing there that makes a directory one of a node?"""
    loads = (store.load_authority, store.load_node_key, store.load_node_chain)
    return all(load() is None for load in loads)


def _load(store: Store, records: list[Record] | None, clock: Clock, entropy: Entropy) -> Held:
    pair, key, chain = store.load_authority(), store.load_node_key(), store.load_node_chain()
    if chain is not None and key is None:
        raise _incomplete(NODE_KEY_FILE, NODE_AUTHORITY_FILE)
    if pair is not None:
        pair = _upgraded(pair, store, clock, entropy)
        if key is None:
            key = make_key()
            store.save_node_key(key)
        return Held(pair.certificate, pair.key, key, chain.certificate if chain else None)
    if any(node_from_uri(record.name) for record in records or ()):
        raise _incomplete(AUTHORITY_FILE, ISSUED_FILE)
    if chain is None or key is None:
        raise PlatformError(
            "conflict",
            "this node began to join a cluster and did not finish",
            hint="repeat the joining with its token: paas cluster join ADDRESS --token TOKEN",
        )
    return Held(chain.root, None, key, chain.certificate)


def _upgraded(pair: x509.Authority, store: Store, clock: Clock, entropy: Entropy) -> x509.Authority:
    """An authority from before there were node authorities may not make any: its certificate is
    made anew for the same key, so whatever it signed stays good.
    """
    facts = x509.facts(pair.certificate)
    left_s = (facts.end_ms - clock.now_ms()) // 1_000
    if facts.path_length != 0 or left_s <= 0:
        return pair
    certificate = x509.make_authority(
        dict(facts.subject).get("DC", ""),
        pair.key,
        serial=new_serial(entropy),
        now_ms=clock.now_ms(),
        life_s=left_s,
    )
    renewed = x509.Authority(certificate, pair.key)
    store.save_authority(renewed)
    return renewed


def _make(cluster: str, clock: Clock, entropy: Entropy) -> x509.Authority:
    key = make_key()
    certificate = x509.make_authority(
        cluster,
        key,
        serial=new_serial(entropy),
        now_ms=clock.now_ms(),
        life_s=AUTHORITY_LIFE_S,
    )
    return x509.Authority(certificate, key)


def _check(held: Held, cluster: str, node: str, now_ms: int) -> None:
    root = x509.facts(held.root)
    stated = dict(root.subject).get("DC", "")
    if stated != cluster:
        raise PlatformError(
            "conflict",
            f"the authority on disk is of the cluster {stated!r}, not of {cluster!r}",
            hint="name the right state directory, or the right cluster",
        )
    if now_ms >= root.end_ms:
        raise PlatformError("untrusted", "the cluster's authority has expired")
    if held.certificate is None:
        return
    own = x509.facts(held.certificate)
    stated = dict(own.subject).get("OU", "")
    if stated != node:
        raise PlatformError(
            "conflict",
            f"the authority on disk is of the node {stated!r}, not of {node!r}",
            hint="name the right state directory, or the right node",
        )
    if held.root_key is None and now_ms >= own.end_ms:
        raise PlatformError(
            "untrusted",
            "the authority of this node has expired",
            hint="set the clock if it is wrong; else let the node join again with a new token",
        )


def _incomplete(missing: str, present: str) -> PlatformError:
    return PlatformError(
        "corrupt",
        f"the authority's file {missing} is missing, {present} is there",
        hint=f"restore {missing} from a backup of the state directory",
        file=missing,
    )


def _gone() -> PlatformError:
    return PlatformError(
        "corrupt",
        "this node joined a cluster, but what it holds of its authority is gone",
        hint="restore the state directory from a backup, or join again with a new token",
        file=NODE_AUTHORITY_FILE,
    )


def _ended(record: Record, now_ms: int) -> bool:
    return now_ms > record.end_ms


def _serial_text(serial: int) -> str:
    return f"{serial:032x}"
