"""What a command is given: the cluster it means, connections to it, the output, one trace (io).

Every request of one command line carries the same trace (W3C traceparent), so that what it caused
can be found; every request that changes something carries an idempotency key.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

from paas.base.errors import PlatformError
from paas.cli import place
from paas.cli.connection import Connection
from paas.cli.output import Output
from paas.cli.reach import NODE_VARIABLE, conditions, reach

ID_DIGITS = 40
PREFIX_DIGITS_MIN = 8


class Session:
    """One run of one command."""

    def __init__(
        self,
        *,
        output: str = "table",
        query: str = "",
        state: str | None = None,
        context: str | None = None,
        color: str = "auto",
        node: str | None = None,
        url: str | None = None,
        authority_file: str | None = None,
        token_file: str | None = None,
        cert_file: str | None = None,
        key_file: str | None = None,
    ) -> None:
        self.trace = os.urandom(16).hex()
        self.traceparent = f"00-{self.trace}-{os.urandom(8).hex()}-01"
        self._state = state
        self._context = context
        self._node = node
        self._remote = (url, authority_file, token_file, cert_file, key_file) if url else None
        self._connections: dict[bool, Connection] = {}
        self._at = ""
        """The node that the connections are to, when there are several."""
        self._passed_over: list[str] = []
        self._answered = False
        self.output = Output(output, query=query, color=color)

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connections; the next call opens new ones."""
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()

    @property
    def remote(self) -> bool:
        """Is the cluster reached over HTTPS?"""
        return self._remote is not None

    @property
    def state(self) -> Path:
        return place.state_directory(self._state, self._context)

    def cluster(self) -> place.Cluster:
        return place.require_cluster(self.state)

    def connection(self, *, binary: bool = False) -> Connection:
        """The connection of this command, made when first needed."""
        known = self._connections.get(binary)
        if known is None and self._remote is not None:
            known = self._connections[binary] = self._reach_remote(binary)
        if known is None:
            self._at, known = reach(
                self.cluster(), self._node, binary=binary, but=self._passed_over
            )
            self._connections[binary] = known
        return known

    def _reach_remote(self, binary: bool) -> Connection:
        """The connection to a cluster elsewhere."""
        from paas.cli.remote import Remote, connect_remote

        if binary:
            raise PlatformError(
                "unsupported",
                "bundles are not sent over HTTPS",
                hint="run this on a machine of the cluster",
            )
        assert self._remote is not None
        return connect_remote(Remote(*(word or "" for word in self._remote)))

    def call(
        self,
        method: str,
        params: dict[str, Any] | None = None,
        *,
        timeout_s: float | None = None,
        binary: bool = False,
    ) -> Any:
        """A request that reads."""
        body = {**(params or {}), "trace": self.traceparent}
        result = self._request(binary, method, body, timeout_s, changes=False)
        self._warn_if_stale(result)
        return result

    def change(
        self,
        method: str,
        params: dict[str, Any],
        *,
        request_id: str | None = None,
        timeout_s: float | None = None,
        binary: bool = False,
    ) -> Any:
        """A request that changes something: it carries an idempotency key."""
        key = request_id or os.urandom(16).hex()
        body = {**params, "trace": self.traceparent, "request_id": key}
        try:
            return self._request(binary, method, body, timeout_s, changes=True)
        except PlatformError as exc:
            if exc.code == "unknown-outcome":
                exc.hint = f"look: paas ps   repeat it safely: --request-id {key}"
            raise

    def _request(
        self,
        binary: bool,
        method: str,
        body: dict[str, Any],
        timeout_s: float | None,
        *,
        changes: bool,
    ) -> Any:
        """One request; while no node has answered yet, one that says `unavailable` is passed over.

        That answer means that nothing was done, so asking another node is safe.
        """
        while True:
            connection = self.connection(binary=binary)
            try:
                result = connection.call(method, body, timeout_s=timeout_s, changes=changes)
            except PlatformError as exc:
                if exc.code != "unavailable" or not self._pass_over():
                    raise
            else:
                self._answered = True
                return result

    def _pass_over(self) -> bool:
        """Turn away from the node that could not answer, if there is another to ask."""
        if self._answered or not self._at or self._node or os.environ.get(NODE_VARIABLE):
            return False
        cluster = self.cluster()
        left = [
            name
            for name, condition in conditions(cluster).items()
            if condition == "running" and name not in (*self._passed_over, self._at)
        ]
        if left:
            self._passed_over.append(self._at)
            self.close()
        return bool(left)

    def _warn_if_stale(self, result: object) -> None:
        if not isinstance(result, dict):
            return
        age_s = result.get("stale_s", result.get("stale"))
        if isinstance(age_s, int | float) and not isinstance(age_s, bool):
            self.output.note(f"warning: this answer is {age_s:.0f} s old: no leader is reachable")

    def component_id(self, target: str) -> str:
        """The id of a component named by id, prefix or name."""
        if is_hex(target) and len(target) == ID_DIGITS:
            return target
        if is_hex(target) and len(target) < PREFIX_DIGITS_MIN and not self._exists(target):
            raise PlatformError(
                "no-such-target",
                f"no component is called {target!r}",
                hint=f"an id prefix has at least {PREFIX_DIGITS_MIN} digits; list them: paas ps",
            )
        return str(self.call("controller.component", {"component": target})["id"])

    def _exists(self, target: str) -> bool:
        try:
            self.call("controller.component", {"component": target})
        except PlatformError:
            return False
        return True

    def target(self, target: str) -> str:
        """A target as the hub takes it: prefixes are completed, names and groups stay."""
        if is_hex(target) and PREFIX_DIGITS_MIN <= len(target) < ID_DIGITS:
            return self.component_id(target)
        return target

    def confirmed(self, action: str, name: str, yes: bool) -> bool:
        """Ask a person to type the name; without a terminal nobody is asked (cli: rule 9)."""
        if yes or not (sys.stdin.isatty() and sys.stderr.isatty()):
            return True
        self.output.stderr.write(f"{action}. Type {name} to go on: ")
        self.output.stderr.flush()
        if sys.stdin.readline().strip() == name:
            return True
        self.output.note("nothing was done")
        return False


def is_hex(text: str) -> bool:
    return bool(text) and all(digit in "0123456789abcdef" for digit in text)
