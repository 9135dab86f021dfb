"""An authority that lies: a small server of the test, which says what it may not say."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio

from paas.base.errors import PlatformError
from paas.fetcher.addresses import networks
from paas.fetcher.client import Fetcher, Settings
from paas.gateway.acme import documents, jws, limits, problems, renewal
from paas.gateway.acme.client import AcmeClient, Solvers
from paas.identity import keys, x509
from tests.unit.fetcher.conftest import Heard, said, scripted

ACME = "urn:ietf:params:acme:error:"


@dataclass
class Authority:
    """Answers by path; `answers` of a test replace those of an honest one."""

    answers: dict[str, Callable[[], bytes]] = field(default_factory=dict)
    heard: list[Heard] = field(default_factory=list)
    url: str = ""
    nonce: int = 0

    def document(self, status: int, body: Any, *headers: str) -> bytes:
        self.nonce += 1
        kind = "application/problem+json" if status >= 400 else "application/json"
        return said(
            status,
            f"Replay-Nonce: n{self.nonce}",
            f"Content-Type: {kind}",
            *headers,
            body=body if isinstance(body, bytes) else json.dumps(body).encode(),
        )

    def problem(self, kind: str, *headers: str, status: int = 400) -> bytes:
        return self.document(status, {"type": ACME + kind, "detail": f"about {kind}"}, *headers)

    def honest(self, path: str) -> bytes:
        at = self.url
        order = {
            "status": "pending",
            "authorizations": [f"{at}/authz"],
            "finalize": f"{at}/finalize",
            "identifiers": [{"type": "dns", "value": "a.example.org"}],
        }
        challenge = {
            "type": "http-01",
            "url": f"{at}/challenge",
            "token": "tok",
            "status": "pending",
        }
        return {
            "/dir": lambda: self.document(
                200,
                {"newNonce": f"{at}/nonce", "newAccount": f"{at}/acct", "newOrder": f"{at}/order"},
            ),
            "/nonce": lambda: self.document(200, b""),
            "/acct": lambda: self.document(201, {"status": "valid"}, f"Location: {at}/acct/1"),
            "/order": lambda: self.document(201, order, f"Location: {at}/order/1"),
            "/order/1": lambda: self.document(200, {**order, "status": "invalid"}),
            "/authz": lambda: self.document(
                200,
                {
                    "status": "invalid" if self.looked else "pending",
                    "identifier": {"type": "dns", "value": "a.example.org"},
                    "challenges": [challenge],
                },
            ),
            "/challenge": lambda: self.document(200, challenge),
        }[path]()

    @property
    def looked(self) -> bool:
        """Was it told to look at the challenge?  It is never content."""
        return any(heard.path == "/challenge" for heard in self.heard)

    async def script(self, heard: Heard, stream: trio.SocketStream) -> None:
        self.heard.append(heard)
        make = self.answers.get(heard.path)
        answer = make() if make is not None else self.honest(heard.path)
        if heard.line.startswith("HEAD "):
            answer = answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
        await stream.send_all(answer)


class Shown:
    """Remembers challenges that are shown."""

    def __init__(self) -> None:
        self.now: dict[str, str] = {}
        self.ever: list[str] = []

    async def show(self, token: str, text: str) -> None:
        self.now[token] = text
        self.ever.append(token)

    async def hide(self, token: str) -> None:
        del self.now[token]


@asynccontextmanager
async def authority() -> AsyncIterator[tuple[Authority, AcmeClient, Shown]]:
    here = Authority()
    async with scripted(here.script) as origin:
        here.url = origin.url("")
        async with Fetcher(Settings(private=networks(["127.0.0.0/8"]))) as fetcher:
            client = AcmeClient(fetcher, f"{here.url}/dir", keys.make_key())
            yield here, client, Shown()


async def failure(client: AcmeClient, shown: Shown) -> PlatformError:
    with pytest.raises(PlatformError) as caught:
        await client.order(("a.example.org",), "http-01", Solvers(http=shown))
    assert shown.now == {}
    return caught.value


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("/dir", b"not json", "sent no directory"),
        ("/dir", {"newNonce": "x"}, "sent no directory"),
        ("/dir", b"[" * 20_000, "sent no directory"),
        ("/dir", {"newNonce": "http://169.254.169.254/", "newAccount": "", "newOrder": ""}, "own"),
        ("/dir", {"newNonce": "file:///etc/passwd", "newAccount": "", "newOrder": ""}, "own"),
        ("/order", {"status": "strange", "authorizations": [], "finalize": ""}, "sent no order"),
        ("/order", {"status": "pending", "authorizations": [], "finalize": "x"}, "authorisations"),
        (
            "/order",
            {"status": "pending", "authorizations": ["https://elsewhere.test/"], "finalize": "x"},
            "not its own",
        ),
        (
            "/order",
            {"status": "pending", "authorizations": ["x"] * 5000, "finalize": "x"},
            "5000 authorisations",
        ),
    ],
)
async def test_documents_that_are_none(path: str, body: Any, expected: str) -> None:
    async with authority() as (here, client, shown):
        location = f"Location: {here.url}/order/1"
        here.answers[path] = lambda: here.document(200, body, location)
        assert expected in str(await failure(client, shown))
        assert not [h for h in here.heard if h.path not in ("/dir", "/nonce", "/acct", "/order")]


@pytest.mark.parametrize("token", ["../../etc", "a/b", "", "a" * 300, "a\r\nb", "é", "a b"])
async def test_a_token_that_is_none_is_shown_to_nobody(token: str) -> None:
    async with authority() as (here, client, shown):
        here.answers["/authz"] = lambda: here.document(
            200,
            {
                "status": "pending",
                "identifier": {"type": "dns", "value": "a.example.org"},
                "challenges": [{"type": "http-01", "url": f"{here.url}/challenge", "token": token}],
            },
        )
        assert "token" in str(await failure(client, shown))
        assert shown.ever == []


async def test_names_that_were_not_asked_for_are_not_proved() -> None:
    async with authority() as (here, client, shown):
        here.answers["/authz"] = lambda: here.document(
            200,
            {
                "status": "pending",
                "identifier": {"type": "dns", "value": "victim.example.org"},
                "challenges": [{"type": "http-01", "url": here.url, "token": "t"}],
            },
        )
        assert "not asked for" in str(await failure(client, shown))
        assert shown.ever == []


async def test_bad_nonces_without_end() -> None:
    async with authority() as (here, client, shown):
        here.answers["/acct"] = lambda: here.problem("badNonce")
        assert "nonces in a row" in str(await failure(client, shown))
        nonces = [_protected(h)["nonce"] for h in here.heard if h.path == "/acct"]
        assert len(nonces) == len(set(nonces)) == limits.BAD_NONCE_MAX


async def test_no_nonce_at_all_and_nonces_that_are_none() -> None:
    for header in ("X: y", "Replay-Nonce: a b", "Replay-Nonce: " + "a" * 600, 'Replay-Nonce: "'):
        async with authority() as (here, client, shown):
            here.answers["/nonce"] = lambda h=header: said(200, h)  # type: ignore[misc]
            here.answers["/dir"] = lambda h=header: said(  # type: ignore[misc]
                200, h, body=here.honest("/dir").partition(b"\r\n\r\n")[2]
            )
            assert "sent no nonce" in str(await failure(client, shown))


async def test_rate_limits_say_how_long() -> None:
    async with authority() as (here, client, shown):
        here.answers["/order"] = lambda: here.problem(
            "rateLimited", "Retry-After: 7200", status=403
        )
        error = await failure(client, shown)
        assert (error.code, error.data["retry_after_s"]) == ("limit-exceeded", 7200.0)
        assert renewal.again_at(0, 1, error.data, 0.0) == 7200
        here.answers["/order"] = lambda: here.problem("rateLimited", status=403)
        error = await failure(client, shown)
        assert error.data["retry_after_s"] == limits.RATE_LIMITED_S


async def test_what_only_a_person_can_mend() -> None:
    async with authority() as (here, client, shown):
        here.answers["/acct"] = lambda: here.problem("userActionRequired", status=403)
        error = await failure(client, shown)
        assert (error.code, error.data["after"]) == ("denied", "never")
        assert renewal.again_at(0, 1, error.data, 0.0) == limits.RETRY_CAP_S


async def test_an_endless_answer_and_a_redirect() -> None:
    async with authority() as (here, client, shown):
        here.answers["/acct"] = lambda: here.document(200, b" " * (limits.ANSWER_BYTES_MAX + 1))
        assert (await failure(client, shown)).code == "limit-exceeded"
        here.answers["/acct"] = lambda: here.document(307, b"", f"Location: {here.url}/other")
        await failure(client, shown)
        assert "/other" not in [h.path for h in here.heard]


@pytest.mark.parametrize(
    ("chain", "expected"),
    [
        (b"", "something else"),
        (b"-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----\n", "something else"),
        (b"<html>", "something else"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "does not serve"),
        (b"-----BEGIN CERTIFICATE-----\n" * 500, "does not serve"),
    ],
)
async def test_chains_that_do_not_serve(chain: bytes, expected: str) -> None:
    async with authority() as (here, client, shown):
        _until_valid(here)
        here.answers["/cert"] = lambda: here.document(200, chain)
        assert expected in str(await failure(client, shown))


async def test_a_certificate_for_another_key_or_other_names() -> None:
    async with authority() as (here, client, shown):
        _until_valid(here)
        made = x509.make_authority(
            "other", keys.make_key(), serial=1, now_ms=int(time.time() * 1000), life_s=3600
        )
        here.answers["/cert"] = lambda: here.document(200, x509.certificate_pem(made))
        assert "another key" in str(await failure(client, shown))


def _until_valid(here: Authority) -> None:
    """An order that is ready at once, and then valid."""
    states = iter(["ready", "valid"])
    base = {"authorizations": ["x"], "finalize": ""}

    def order() -> bytes:
        at = here.url
        return here.document(
            200,
            {
                **base,
                "status": next(states, "valid"),
                "finalize": f"{at}/finalize",
                "certificate": f"{at}/cert",
            },
        )

    here.answers["/order/1"] = order
    here.answers["/finalize"] = lambda: here.document(200, {})
    here.answers["/authz"] = lambda: here.document(
        200,
        {
            "status": "valid",
            "identifier": {"type": "dns", "value": "a.example.org"},
            "challenges": [],
        },
    )


def _protected(heard: Heard) -> dict[str, Any]:
    text = json.loads(heard.body)["protected"]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return found


async def test_what_is_sent_is_signed_as_the_standard_says() -> None:
    """First the key itself, then the account; the payload of a POST-as-GET is empty."""
    async with authority() as (here, client, shown):
        await failure(client, shown)
        posts = [h for h in here.heard if h.line.startswith("POST ")]
        heads = [_protected(h) for h in posts]
        assert heads[0]["jwk"] == jws.jwk(client._key)
        assert all(head["kid"] == f"{here.url}/acct/1" for head in heads[1:])
        assert all(
            head["url"] == f"{here.url}{h.path}" for head, h in zip(heads, posts, strict=True)
        )
        assert all(h.headers["content-type"] == "application/jose+json" for h in posts)
        body = json.loads(next(h for h in posts if h.path == "/authz").body)
        assert body["payload"] == ""
        raw = base64.urlsafe_b64decode(body["signature"] + "==")
        assert len(raw) == 64


def test_which_directories_may_be_asked() -> None:
    for url in ("http://acme.example.org/dir", "ftp://x/", "nonsense", "https://x:99999/"):
        with pytest.raises(PlatformError):
            documents.origin(url)
    assert documents.origin("https://ACME.example.org/dir")[1:] == ("acme.example.org", 443)


def test_which_names_a_certificate_can_have() -> None:
    assert documents.names(["A.Example.org.", "a.example.org"]) == ("a.example.org",)
    for wrong in ([], ["x" * 300], ["a b.c"], ["localhost"], ["a.*.b"], ["../x.y"], ["a.b\n"]):
        with pytest.raises(PlatformError):
            documents.names(wrong)


def test_renewals_are_spread_and_in_time() -> None:
    moments = [renewal.due_at(0, 90, (f"{n}.example.org",)) for n in range(200)]
    assert 55 < min(moments) < max(moments) < 65
    assert len(set(moments)) == 200


def test_failures_are_tried_again_ever_more_seldom() -> None:
    waits = [renewal.again_at(0, n, {}, 1.0) for n in range(1, 20)]
    assert waits[0] == limits.RETRY_FIRST_S
    assert waits[-1] == limits.RETRY_CAP_S
    assert waits == sorted(waits)


def test_details_of_strangers_are_cut_and_cleaned() -> None:
    error = problems.error(400, documents.Problem(type="x", detail="a\x1b[31m\n" + "b" * 1000))
    assert "\x1b" not in str(error)
    assert len(str(error)) < 500
