"""What one cluster could leave behind on a machine: take a picture before and one after.

The difference must be empty after every orderly end.  It is what `paas doctor --leftovers` prints.
"""

from __future__ import annotations

from paas.cli.leftovers import picture

__all__ = ["picture"]
