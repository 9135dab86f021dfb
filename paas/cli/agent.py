"""`paas agent run ROLE`: become one agent of the platform (io).

The agents' code needs what this command must not import; so this process is replaced by theirs.
"""

from __future__ import annotations

import os
import sys

from paas.cli.session import Session
from paas.cli.supervisor import environment


def run(session: Session, *, role: str) -> int:
    """Never returns when it works."""
    words = [sys.executable, "-m", "paas", role]
    if role in ("node", "cleanup"):
        words += ["--state", str(session.state)]
    sys.stdout.flush()
    os.execve(sys.executable, words, environment())
