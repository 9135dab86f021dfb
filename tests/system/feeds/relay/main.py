"""An SMTP server (aiosmtpd, which is in the bundle) as a component; `mails` are those it took."""

from __future__ import annotations

import os
from email import message_from_bytes
from email.policy import default
from typing import Any

from aiosmtpd.controller import Controller
from paas_component import Call, Component

component = Component()
taken: list[dict[str, str]] = []


class Keeper:
    async def handle_DATA(  # noqa: N802 (the library's name)
        self, _server: Any, _session: Any, envelope: Any
    ) -> str:
        message = message_from_bytes(envelope.content, policy=default)
        taken.extend({"to": to, "subject": str(message["Subject"])} for to in envelope.rcpt_tos)
        return "250 kept"


@component.operation("mails", inline=True)
def mails(inputs: dict[str, Any], call: Call) -> dict[str, Any]:
    return {"mails": taken}


if __name__ == "__main__":
    host, _, port = os.environ["PAAS_ENDPOINT_SMTP"].rpartition(":")
    Controller(Keeper(), hostname=host, port=int(port)).start()
    component.join("feeds.smtp")
    component.run()
