"""The published documents that are replayed: `corpus.tar.xz`, made by ../corpus/build.py (io).

Where they come from and under which licences: ../NOTICE.
"""

from __future__ import annotations

import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ARCHIVE = Path(__file__).resolve().parent / "corpus.tar.xz"


@dataclass(frozen=True)
class Corpus:
    """Documents by `FORM/NAME`, and the earthquakes of a week, oldest first."""

    documents: dict[str, bytes]
    earthquakes: list[dict[str, Any]]


def load(archive: Path = ARCHIVE) -> Corpus:
    """All of it; OSError, tarfile.TarError when the archive is damaged."""
    documents: dict[str, bytes] = {}
    earthquakes: list[dict[str, Any]] = []
    with tarfile.open(archive) as tar:
        for member in tar:
            file = tar.extractfile(member)
            if file is None:
                continue
            if member.name.startswith("feeds/"):
                documents[member.name.removeprefix("feeds/")] = file.read()
            else:
                earthquakes = [json.loads(line) for line in file.read().splitlines()]
    return Corpus(documents, earthquakes)
