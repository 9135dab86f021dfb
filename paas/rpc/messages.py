"""The one message that every connection understands by itself: a request is no longer wanted.

Source: JSON-RPC 2.0 has no cancellation; other protocols on it use a notification with the id of
the request (Language Server Protocol 3.17, "Cancellation Support"), and so do we.
"""

from __future__ import annotations

from paas.wire.registry import Nothing, Params, method


class Cancel(Params, frozen=True, kw_only=True):
    """Abandon a request of this connection: no answer to it is sent, who works on it is told.

    A notification.  `id` is that of the request; one that is not known here, or is answered
    already, is ignored.
    """

    id: int | str | float | None


CANCEL = method(120, "rpc.cancel", Cancel, Nothing)
