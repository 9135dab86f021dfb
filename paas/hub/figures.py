"""The hub's own attributes of a component: what waits for it, and how it copes.

    hub.waiting        calls that wait for its answers
    hub.queued_bytes   bytes that its harness has not taken yet
    hub.delivered      calls and casts handed over since it was attached here
    hub.refused        calls and casts refused to their senders because too much waited
    hub.slow           a quarter of the way to being refused, or further

They are read-only, and read at the hub of the component's node; a component that is not attached
has none.  `hub.top` shows the same figures.
"""

from __future__ import annotations

from typing import Any

from paas.hub import limits
from paas.hub.router import Router
from paas.hub.routes import Attachment

NAMES = ("hub.waiting", "hub.queued_bytes", "hub.delivered", "hub.refused", "hub.slow")


def is_slow(attachment: Attachment) -> bool:
    """Does it fall behind those who send to it?"""
    queued = attachment.peer.link.queued_bytes
    return queued >= limits.SLOW_BYTES or attachment.waiting >= limits.SLOW_WAITING


class Figures:
    """The figures of the components that are attached to one hub."""

    def __init__(self, router: Router) -> None:
        self._router = router

    def figures_of(self, component: str) -> dict[str, Any]:
        """Name to value; empty when the component is not attached here."""
        attachment = self._router.attachment(component)
        if attachment is None:
            return {}
        return {
            "hub.waiting": attachment.waiting,
            "hub.queued_bytes": attachment.peer.link.queued_bytes,
            "hub.delivered": attachment.delivered,
            "hub.refused": attachment.refused,
            "hub.slow": is_slow(attachment),
        }
