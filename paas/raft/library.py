"""Is this the library that the armour was made for?  (Keeper K10.)

The armour overrides private methods of pysyncobj and relies on what it does between two lines.  So
the four files that matter are compared by digest before the library is used; with any other version
the log refuses to start.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os

from paas.base.errors import PlatformError

VERSION = "0.3.17"

DIGESTS = {
    "syncobj.py": "e8bdf06797085d734df86e24ab4802fe87893dff77268565ec036f7ad4a1cfe4",
    "journal.py": "9cf1eaf6acc704581a4cf7d3de330a404403913107adc91c929778b7e3f35edf",
    "serializer.py": "4d39fde2f15000ad8f507ec229ebd4f6a86371b6f84d4dc1439a9cccd52857ee",
    "transport.py": "0c9d89f9c4781ec9772df8011d7975a1a4a1a5f541357e12eae85a813e92b50b",
}


def verify(folder: str | None = None) -> None:
    """Raises `unsupported` when the installed library is not the known one."""
    for name, digest in DIGESTS.items():
        try:
            with open(os.path.join(folder or _folder(), name), "rb") as file:
                found = hashlib.sha256(file.read()).hexdigest()
        except OSError as exc:
            raise _unsupported(f"{name} cannot be read") from exc
        if found != digest:
            raise _unsupported(f"{name} is not that of version {VERSION}")


def _folder() -> str:
    found = importlib.util.find_spec("pysyncobj")
    if found is None or not found.submodule_search_locations:
        raise _unsupported("it is not installed")
    return found.submodule_search_locations[0]


def _unsupported(text: str) -> PlatformError:
    return PlatformError(
        "unsupported",
        f"the Raft library pysyncobj: {text}",
        hint=f"install exactly pysyncobj=={VERSION}",
    )
