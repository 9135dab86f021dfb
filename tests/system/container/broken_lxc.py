"""The small harness, in a template that finds a `lxc-start` which cannot start anything."""

from __future__ import annotations

from pathlib import Path

from plain_init import main

from paas.container.backends import lxc

lxc.SEARCHED = str(Path(__file__).parent / "contract" / "broken")

__all__ = ["main"]
