"""The cluster's authority: made at the first start, then decides and signs.

    open_authority    find the authority on disk, or make it; refuse what is neither
    Authority.issue   a certificate for this name and this key, put on record before it is given out

May this requester have this certificate?  `refusal` answers; it knows the name that was granted and
the name that was asked for.  How the grant came about (a token, an older certificate) is
`manager`'s.

Invariant: a certificate that left this module is on record on disk, with a serial number of its
own, until it ends.  So a crash can lose an answer, never a record.
"""

from __future__ import annotations

from paas.base.errors import LocalError, PlatformError
from paas.base.ports import Clock, Entropy
from paas.certificates.lifecycle import CERTIFICATE, CertificateEvent
from paas.certificates.limits import AUTHORITY_LIFE_S, ISSUED_MAX, SERIAL_DRAWS_MAX
from paas.certificates.state import AUTHORITY_FILE, ISSUED_FILE, Record, Store
from paas.identity import capabilities, x509
from paas.identity.csr import Asked
from paas.identity.keys import fingerprint, make_key
from paas.identity.limits import SERIAL_BYTES
from paas.identity.names import AgentName
from paas.identity.verify import Trust


def refusal(granted: AgentName, asked: Asked) -> str:
    """Why this request does not get the certificate that was granted; empty: it does."""
    if asked.name != granted:
        return f"asks for {asked.name}, was granted {granted}"
    if granted.subsystem not in capabilities.OF_ROLE:
        return f"no role is called {granted.subsystem}"
    return ""


class Authority:
    """The authority of one cluster, with its records."""

    def __init__(
        self,
        cluster: str,
        pair: x509.Authority,
        records: list[Record],
        *,
        store: Store,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self.trust = Trust(cluster, (pair.certificate,))
        self.facts = x509.facts(pair.certificate)
        self.pem = x509.certificate_pem(pair.certificate).decode()
        self._pair = pair
        self._records = {record.serial: record for record in records}
        self._store = store
        self._clock = clock
        self._entropy = entropy

    @property
    def certificates(self) -> int:
        """Certificates on record."""
        return len(self._records)

    def knows(self, serial: int) -> bool:
        return _serial_text(serial) in self._records

    def issue(
        self, name: AgentName, asked: Asked, *, life_s: int, renews: int | None = None
    ) -> str:
        """A certificate (PEM) for a name and a key; `renews` is the serial it takes the place of.

        Raises `limit-exceeded` when too many are on record, `storage-full` when it cannot be.
        """
        now_ms = self._clock.now_ms()
        records = {s: r for s, r in self._records.items() if not _ended(r, now_ms)}
        if len(records) >= ISSUED_MAX:
            raise PlatformError("limit-exceeded", f"{ISSUED_MAX} certificates are on record")
        # A leaf that outlives its authority would be refused when the authority ends.
        life_s = min(life_s, (self.facts.end_ms - now_ms) // 1_000)
        if life_s <= 0:
            raise PlatformError("untrusted", "the cluster's authority has expired")
        serial = self._new_serial(records)
        leaf = x509.make_leaf(
            self._pair,
            name,
            asked.key,
            serial=serial,
            now_ms=now_ms,
            life_s=life_s,
            capabilities=capabilities.OF_ROLE[name.subsystem],
        )
        text = _serial_text(serial)
        end_ms = x509.facts(leaf).end_ms
        records[text] = Record(
            serial=text, name=name.uri, key=fingerprint(asked.key), end_ms=end_ms
        )
        old = records.get(_serial_text(renews)) if renews is not None else None
        if old is not None:
            state = CERTIFICATE.next(old.state, CertificateEvent.RENEW)
            records[old.serial] = Record(
                serial=old.serial, name=old.name, key=old.key, end_ms=old.end_ms, state=state
            )
        self._store.save_issued(list(records.values()))
        self._records = records
        return x509.certificate_pem(leaf).decode()

    def _new_serial(self, records: dict[str, Record]) -> int:
        for _ in range(SERIAL_DRAWS_MAX):
            serial = new_serial(self._entropy)
            if _serial_text(serial) not in records:
                return serial
        raise LocalError("the entropy port repeats itself")


def open_authority(
    cluster: str, store: Store, clock: Clock, entropy: Entropy
) -> tuple[Authority, bool]:
    """The authority of this state directory, and whether it was made now.

    Raises `corrupt` when the files are damaged or one of them is missing, `conflict` when they are
    of another cluster, `untrusted` when the authority has expired.
    """
    pair, records = store.load_authority(), store.load_issued()
    made = False
    if pair is None:
        if records:
            raise _incomplete(AUTHORITY_FILE, ISSUED_FILE)
        store.save_issued([])
        pair, records, made = _make(cluster, clock, entropy), [], True
        store.save_authority(pair)
    if records is None:
        raise _incomplete(ISSUED_FILE, AUTHORITY_FILE)
    authority = Authority(cluster, pair, records, store=store, clock=clock, entropy=entropy)
    _check(authority, cluster, clock.now_ms())
    return authority, made


def new_serial(entropy: Entropy) -> int:
    """A random positive serial number."""
    return int.from_bytes(entropy.bytes(SERIAL_BYTES), "big") >> 1 or 1


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


def _check(authority: Authority, cluster: str, now_ms: int) -> None:
    stated = dict(authority.facts.subject).get("DC", "")
    if stated != cluster:
        raise PlatformError(
            "conflict",
            f"the authority on disk is of the cluster {stated!r}, not of {cluster!r}",
            hint="name the right state directory, or the right cluster",
        )
    if now_ms >= authority.facts.end_ms:
        raise PlatformError("untrusted", "the cluster's authority has expired")


def _incomplete(missing: str, present: str) -> PlatformError:
    return PlatformError(
        "corrupt",
        f"the authority's file {missing} is missing, {present} is there",
        hint=f"restore {missing} from a backup of the state directory",
        file=missing,
    )


def _ended(record: Record, now_ms: int) -> bool:
    return now_ms > record.end_ms


def _serial_text(serial: int) -> str:
    return f"{serial:032x}"
