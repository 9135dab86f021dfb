"""What the origin answers to a request: plain data."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent, how slowly, and whether it is cut off before its end.

    Status 0: the body is all that is sent.  `stream` names a stream of events that follows.
    """

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    delay_s: float = 0.0
    drip_s: float = 0.0
    cut: bool = False
    stream: str = ""
