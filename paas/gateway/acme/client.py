"""One order at an authority, from its directory to the chain.  (io)

    nonce ─> account ─> order ─> authorisations ── challenge shown ── "look" ── polled ─┐
                          ^                                                             │
                          └── pending ── ready ── finalize (request) ── processing ── valid ─> chain

Every request is signed and carries a nonce; each answer brings the next one.  `badNonce` is
answered with the nonce that came with it, at once, a bounded number of times.  Challenges are taken
away again however the order ends.  A chain is believed when it is for our key and our names.

Source: RFC 8555 §6, §7.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import trio

from paas.base.errors import PlatformError
from paas.base.retry import Backoff
from paas.fetcher.client import Answer, Fetcher, Request, retry_after_s
from paas.gateway.acme import documents, jws, limits, problems
from paas.gateway.acme.documents import Authorization, Challenge, Directory, Order, wrong
from paas.gateway.acme.ports import Challenges, Records
from paas.gateway.acme.store import Kept, examine
from paas.identity import host_csr, keys
from paas.identity.keys import Malformed

T = TypeVar("T")
Kind = Literal["http-01", "dns-01"]


@dataclass(frozen=True, kw_only=True)
class Solvers:
    """Who shows what challenges ask for."""

    http: Challenges | None = None
    dns: Records | None = None
    propagation_s: float = limits.PROPAGATION_S


class AcmeClient:
    """An account at one authority.  One order at a time."""

    def __init__(
        self,
        fetcher: Fetcher,
        directory: str,
        key: keys.PrivateKey,
        contact: tuple[str, ...] = (),
        *,
        wall: Callable[[], float] = time.time,
    ) -> None:
        documents.origin(directory)
        self._fetcher = fetcher
        self._directory_url = directory
        self._key = key
        self._contact = contact
        self._wall = wall
        self._directory: Directory | None = None
        self._account = ""
        self._nonces: list[str] = []
        self.bad_nonces = 0
        self.requests = 0

    async def order(self, names: tuple[str, ...], kind: Kind, solvers: Solvers) -> Kept:
        """A new key and certificate.  Raises PlatformError; its data say what may follow."""
        names = documents.names(names)
        found: Kept | None = None
        with trio.move_on_after(limits.ORDER_S):
            found = await self._order(names, kind, solvers)
        if found is None:
            raise PlatformError("timeout", f"no certificate within {limits.ORDER_S:g} seconds")
        return found

    async def _order(self, names: tuple[str, ...], kind: Kind, solvers: Solvers) -> Kept:
        directory = await self._begin()
        asked = [{"type": "dns", "value": name} for name in names]
        answer = await self._post(directory.new_order, {"identifiers": asked})
        url = self._location(answer)
        order = documents.read(answer.body, Order)
        await self._authorise(order, frozenset(names), kind, solvers)
        order = await self._poll(url, Order, lambda o: o.status not in ("pending", "processing"))
        if order.status == "ready":
            key = keys.make_key()
            request = jws.b64(host_csr.make(names, key))
            await self._post(self._own(order.finalize), {"csr": request})
            order = await self._poll(url, Order, lambda o: o.status in ("valid", "invalid"))
        else:
            key = None
        if order.status != "valid" or key is None:
            raise problems.error(0, order.error or documents.Problem(detail="the order failed"))
        chain = await self._post(self._own(order.certificate), None, limits.CHAIN_BYTES_MAX)
        try:
            return examine(keys.key_pem(key) + _only_certificates(chain.body), names, self._wall())
        except Malformed as exc:
            raise wrong(f"issued what does not serve: {exc}") from None

    # -- authorisations --------------------------------------------------------------------------

    async def _authorise(
        self, order: Order, asked: frozenset[str], kind: Kind, solvers: Solvers
    ) -> None:
        if not order.authorizations or len(order.authorizations) > limits.CHALLENGES_MAX:
            raise wrong(f"wants {len(order.authorizations)} authorisations")
        for url in order.authorizations:
            url = self._own(url)
            answer = await self._post(url, None)
            authorization = documents.read(answer.body, Authorization)
            if authorization.status == "valid":
                continue
            if authorization.status != "pending":
                raise wrong(f"has an authorisation that is {authorization.status}")
            await self._solve(url, authorization, asked, kind, solvers)

    async def _solve(
        self,
        url: str,
        authorization: Authorization,
        asked: frozenset[str],
        kind: Kind,
        solvers: Solvers,
    ) -> None:
        challenge = documents.chosen(authorization, kind, asked)
        token = documents.token(challenge)
        name = authorization.identifier.value.lower()
        try:
            await self._show(kind, name, token, solvers)
            await self._post(self._own(challenge.url), {})
            done = await self._poll(url, Authorization, lambda a: a.status != "pending")
        finally:
            with trio.move_on_after(limits.CLEAN_S, shield=True):
                await self._hide(kind, name, token, solvers)
        if done.status != "valid":
            raise problems.error(0, _why(done.challenges, kind), challenge=True)

    async def _show(self, kind: Kind, name: str, token: str, solvers: Solvers) -> None:
        if kind == "http-01" and solvers.http is not None:
            await solvers.http.show(token, jws.key_authorization(token, self._key))
        elif kind == "dns-01" and solvers.dns is not None:
            await solvers.dns.publish(f"_acme-challenge.{name}", jws.dns_value(token, self._key))
            await trio.sleep(solvers.propagation_s)
        else:
            raise PlatformError(
                "invalid", f"challenge: nobody here answers {kind}", field="challenge"
            )

    async def _hide(self, kind: Kind, name: str, token: str, solvers: Solvers) -> None:
        if kind == "http-01" and solvers.http is not None:
            await solvers.http.hide(token)
        elif solvers.dns is not None:
            await solvers.dns.withdraw(f"_acme-challenge.{name}", jws.dns_value(token, self._key))

    async def _poll(self, url: str, kind: type[T], over: Callable[[T], bool]) -> T:
        """The object once it is so.  At the pace that the authority asks for (RFC 8555 §7.5.1)."""
        backoff = Backoff(first_s=limits.POLL_FIRST_S, cap_s=limits.POLL_CAP_S)
        attempt = 0
        while True:
            answer = await self._post(url, None)
            found = documents.read(answer.body, kind)
            if over(found):
                return found
            attempt += 1
            asked = retry_after_s(answer.header("retry-after"), self._wall())
            wait_s = backoff.delay_s(attempt, 0.5) if asked is None else asked
            await trio.sleep(min(max(wait_s, limits.POLL_LEAST_S), limits.POLL_MOST_S))

    # -- requests --------------------------------------------------------------------------------

    async def _begin(self) -> Directory:
        """Directory and account, if they are not known yet."""
        if self._directory is None:
            answer = await self._ask(Request(url=self._directory_url, **_BOUNDS))
            if answer.status != 200:
                raise problems.error(answer.status, documents.problem(answer.body))
            directory = documents.read(answer.body, Directory)
            for url in (directory.new_nonce, directory.new_account, directory.new_order):
                self._own(url)
            self._directory = directory
        if not self._account:
            terms: dict[str, Any] = {"termsOfServiceAgreed": True}
            if self._contact:
                terms["contact"] = [f"mailto:{address}" for address in self._contact]
            self._account = self._location(await self._post(self._directory.new_account, terms))
        return self._directory

    async def _post(
        self, url: str, payload: Any | None, body_max: int = limits.ANSWER_BYTES_MAX
    ) -> Answer:
        """A signed request (RFC 8555 §6.2); repeated for the sake of its nonce."""
        for _ in range(limits.BAD_NONCE_MAX):
            nonce = await self._nonce()
            answer = await self._ask(
                Request(
                    url=url,
                    method="POST",
                    headers=(("content-type", "application/jose+json"),),
                    body=jws.signed(self._key, url, nonce, payload, self._account),
                    body_max=body_max,
                    redirects=0,
                    retries=0,
                    timeout_s=limits.REQUEST_S,
                )
            )
            self._remember(answer)
            if answer.status < 300:
                return answer
            problem = documents.problem(answer.body)
            if problems.after(answer.status, problem) is not problems.After.AT_ONCE:
                asked = retry_after_s(answer.header("retry-after"), self._wall())
                if problems.word(problem) == "accountDoesNotExist":
                    self._account = ""
                raise problems.error(answer.status, problem, asked)
            self.bad_nonces += 1
        raise wrong(f"refused {limits.BAD_NONCE_MAX} nonces in a row")

    async def _nonce(self) -> str:
        if self._nonces:
            return self._nonces.pop()
        assert self._directory is not None
        url = self._directory.new_nonce
        self._remember(await self._ask(Request(url=url, method="HEAD", **_BOUNDS)))
        if not self._nonces:
            raise wrong("sent no nonce")
        return self._nonces.pop()

    async def _ask(self, request: Request) -> Answer:
        self.requests += 1
        return await self._fetcher.fetch(request)

    def _remember(self, answer: Answer) -> None:
        nonce = answer.header("replay-nonce")
        plain = nonce.isascii() and nonce.replace("-", "").replace("_", "").isalnum()
        if nonce and plain and len(nonce) <= limits.NONCE_MAX:
            self._nonces.append(nonce)
            del self._nonces[: -limits.NONCES_MAX]

    def _own(self, url: str) -> str:
        return documents.same_origin(self._directory_url, url)

    def _location(self, answer: Answer) -> str:
        return self._own(answer.header("location"))


_BOUNDS: dict[str, Any] = {
    "body_max": limits.ANSWER_BYTES_MAX,
    "redirects": 0,
    "timeout_s": limits.REQUEST_S,
}


def _only_certificates(body: bytes) -> bytes:
    """The chain, if it is nothing else (RFC 8555 §9.1 says so): no key, no text between."""
    begin = b"-----BEGIN CERTIFICATE-----"
    if body.count(b"-----BEGIN ") != body.count(begin) or not body.lstrip().startswith(begin):
        raise wrong("issued something else than certificates")
    return body.lstrip()


def _why(challenges: list[Challenge], kind: str) -> documents.Problem:
    for challenge in challenges:
        if challenge.type == kind and challenge.error is not None:
            return challenge.error
    return documents.Problem(detail="the challenge failed")
