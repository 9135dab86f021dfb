"""What becomes of a message: an answer, silence, a transfer, a question to others.  Pure.

    datagram ── same bytes asked before, same serial? ──> ready answer          (the usual way)
        └──> read ── about the zone? ── yes ──> build, keep, answer
                          │ transfer ──> Transfer (by TCP, to whom it is allowed)
                          no ── may this source ask us for others' names? ──> Forward, or REFUSED

Ready answers are kept by the bytes of their question, without its number, until the zone's serial
changes: then all are dropped, so none outlives what it says.  Only what exists is kept ready: who
asks for thousands of names that do not cannot push out the others.

A `Face` is how this server looks from somewhere: the zone as it is there, whether it asks others on
one's behalf, whether it counts answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from paas.dns import answer, limits, records, tsig, wire
from paas.dns.answer import Built, Signing
from paas.dns.names import Labels, below
from paas.dns.rates import Rates, Verdict
from paas.dns.transfer import Secondary, may_transfer
from paas.dns.wire import Message
from paas.dns.zone import Zone

_META = range(128, 256)
"""Kinds that are no records but questions (RFC 6895 §3.1)."""


@dataclass(frozen=True, slots=True)
class Forward:
    """Ask others for this, and answer with what they say."""

    message: Message


@dataclass(frozen=True, slots=True)
class Transfer:
    """Send the zone; sign with the key of the request, if it was signed."""

    message: Message
    signature: tsig.Signature | None


Reply = bytes | Forward | Transfer | None


OnBug = Callable[[str, Exception], None]
"""Hears of exceptions that nobody expected."""


def raise_it(_where: str, exc: Exception) -> None:
    """Where nothing else depends on it."""
    raise exc


class Turns:
    """Ready answers that take turns."""

    __slots__ = ("_next", "listed", "wanted")

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.listed: list[bytes] = []
        self._next = 0

    def next(self) -> bytes | None:
        """None: one more is to be made."""
        if len(self.listed) < self.wanted:
            return None
        self._next = (self._next + 1) % self.wanted
        return self.listed[self._next]


@dataclass(slots=True)
class Face:
    """See the module's text."""

    zone: Zone
    recursion: bool = False
    rates: Rates | None = None
    ready: dict[bytes, bytes | Turns] = field(default_factory=dict)
    """By datagram without its number: the answer without its number."""
    ready_bytes: int = 0
    built: dict[tuple[Labels, int], list[Built]] = field(default_factory=dict)
    serial: int = -1

    def refresh(self) -> None:
        """Forget what an earlier serial said."""
        serial = self.zone.serial
        if serial != self.serial or self.ready_bytes > limits.ANSWERS_KEPT_BYTES_MAX:
            self.serial = serial
            self.ready.clear()
            self.built.clear()
            self.ready_bytes = 0


@dataclass(slots=True)
class Figures:
    """Counts since the beginning."""

    answers: int = 0
    refused: int = 0
    malformed: int = 0
    forwarded: int = 0
    transfers: int = 0

    def to_plain(self) -> dict[str, int]:
        return {
            "answers": self.answers,
            "refused": self.refused,
            "malformed": self.malformed,
            "forwarded": self.forwarded,
            "transfers": self.transfers,
        }


class Responder:
    """See the module's text.  `now_s`: seconds since the Unix epoch, for signatures."""

    def __init__(
        self,
        *,
        now_s: Callable[[], float],
        keys: Mapping[Labels, bytes] | None = None,
        secondaries: tuple[Secondary, ...] = (),
        signing: Callable[[Zone], Signing | None] = lambda _zone: None,
        on_bug: OnBug = raise_it,
    ) -> None:
        self._now_s = now_s
        self._keys = dict(keys or {})
        self.secondaries = secondaries
        self.signing = signing
        self.on_bug = on_bug
        self.figures = Figures()

    def respond(self, data: bytes, source: str, face: Face, *, tcp: bool = False) -> Reply:
        """Never raises, whatever the bytes are, unless `on_bug` does."""
        try:
            message = wire.read(data)
            if message is None:
                self.figures.malformed += 1
                return None
            return self._answer(data, message, source, face, tcp)
        except wire.Refused as refused:
            self.figures.refused += 1
            return wire.refusal(data, refused)
        except Exception as exc:  # ours, not the asker's: the others are answered all the same
            self.on_bug("dns.answer", exc)
            return wire.refusal(data, wire.Refused(wire.SERVFAIL))

    def ready(self, data: bytes, face: Face) -> bytes | None:
        """The quick way for a datagram; None: `respond` knows."""
        found = face.ready.get(data[2:])
        if found is None:
            return None
        if found.__class__ is not bytes:
            assert isinstance(found, Turns)
            turn = found.next()
            if turn is None:
                return None
            found = turn
        self.figures.answers += 1
        return data[:2] + found

    def limited(self, data: bytes, source: str, face: Face, now_s: float) -> Verdict:
        """May this source have one more answer?  `now_s` of any clock that goes on."""
        return Verdict.SEND if face.rates is None else face.rates.judge(source, now_s)

    def slip(self, data: bytes) -> bytes | None:
        """The empty answer that sends a real asker to TCP; None for what is no question."""
        try:
            message = wire.read(data)
        except wire.Refused:
            return None
        if message is None:
            return None
        flags = wire.QR | wire.TC | (message.flags & (0x7800 | wire.RD))
        return wire.header(message.number, flags, (1, 0, 0, 0)) + message.question

    # -- one message -----------------------------------------------------------------------------

    def _answer(self, data: bytes, message: Message, source: str, face: Face, tcp: bool) -> Reply:
        if message.opcode != wire.QUERY:
            raise wire.Refused(wire.NOTIMP, message)
        if message.edns is not None and message.edns.version:
            raise wire.Refused(wire.BADVERS, message)
        signature: tsig.Signature | None = None
        if message.signed is not None:
            try:
                now_s = int(self._now_s())
                signature = tsig.verify(data, message.signed, self._keys, now_s)
            except tsig.Unsigned as exc:
                self.figures.refused += 1
                return self._not_signed(data, message, exc.error)
        within = below(message.labels, face.zone.origin) is not None
        if message.kind in (records.AXFR, records.IXFR):
            return self._transfer(message, source, face, tcp, signature)
        if message.family not in (records.IN, records.CLASS_ANY):
            raise wire.Refused(wire.REFUSED, message)
        if not within:
            if face.recursion and message.flags & wire.RD and message.kind not in _META:
                self.figures.forwarded += 1
                return Forward(message)
            raise wire.Refused(wire.REFUSED, message)
        if message.kind in _META and message.kind != records.ANY:
            raise wire.Refused(wire.NOTIMP, message)
        made = self._make(data, message, face, tcp, keep=signature is None)
        self.figures.answers += 1
        if signature is not None:
            made = self.signer(signature).sign(made, int(self._now_s()))
        return made

    def _make(self, data: bytes, message: Message, face: Face, tcp: bool, *, keep: bool) -> bytes:
        face.refresh()
        secure = message.edns is not None and message.edns.secure
        signing = self.signing(face.zone) if secure else None
        keep = keep and signing is None  # signatures grow old, and are remembered by who makes them
        key = (message.labels, message.kind)
        known = face.built.get(key) if signing is None else None
        if known is None:
            known = [self._built(message, face, signing, 0)]
            if signing is None and known[0].answers and len(face.built) < limits.ANSWERS_KEPT_MAX:
                face.built[key] = known
        wanted = 1
        if known[0].answers > 1:
            wanted = answer.orders(face.zone, message.labels, message.kind)
            if len(known) < wanted:
                known.append(self._built(message, face, signing, len(known)))
        flags = wire.AA | (wire.RA if face.recursion else 0)
        room_bytes = answer.room(message, tcp=tcp)
        made = answer.assemble(message, known[-1], room_bytes, flags)
        if len(known) == wanted and wanted > 1:
            known.insert(0, known.pop())  # the others have their turn too
        if keep and not tcp and known[0].answers:
            self._keep(data, made, face, wanted)
        return made

    def _built(self, message: Message, face: Face, signing: Signing | None, order: int) -> Built:
        return answer.build(face.zone, message.labels, message.kind, signing=signing, order=order)

    @staticmethod
    def _keep(data: bytes, made: bytes, face: Face, wanted: int) -> None:
        face.ready_bytes += len(data) + len(made)
        if wanted == 1:
            face.ready[data[2:]] = made[2:]
            return
        turns = face.ready.get(data[2:])
        if not isinstance(turns, Turns):
            turns = face.ready[data[2:]] = Turns(wanted)
        turns.listed.append(made[2:])

    def _transfer(
        self,
        message: Message,
        source: str,
        face: Face,
        tcp: bool,
        signature: tsig.Signature | None,
    ) -> Reply:
        key = () if signature is None else signature.key
        allowed = may_transfer(source, key, self.secondaries)
        if message.labels != face.zone.origin or not allowed:
            raise wire.Refused(wire.NOTAUTH if allowed else wire.REFUSED, message)
        if tcp:
            self.figures.transfers += 1
            return Transfer(message, signature)
        if message.kind == records.AXFR:
            raise wire.Refused(wire.FORMERR, message)  # RFC 5936 §4.2: not by UDP
        soa = answer.build(face.zone, message.labels, records.SOA, signing=None)
        made = answer.assemble(message, soa, answer.room(message, tcp=False))
        if signature is not None:  # RFC 1995 §2: the one SOA sends the asker to TCP
            made = self.signer(signature).sign(made, int(self._now_s()))
        return made

    @staticmethod
    def signer(signature: tsig.Signature) -> tsig.Signer:
        """Signs the answer to a request that was signed like this."""
        return tsig.Signer(signature.key, signature.secret, signature.mac)

    def _not_signed(self, data: bytes, message: Message, error: int) -> bytes:
        assert message.signed is not None
        flags = wire.QR | (message.flags & (0x7800 | wire.RD)) | wire.NOTAUTH
        plain = wire.header(message.number, flags, (1, 0, 0, 0)) + message.question
        now_s = int(self._now_s())
        return tsig.refused(plain, message.signed.key, message.number, error, now_s)
