"""Makes ../origin/corpus.tar.xz of published packages' archives; run by hand, when they change.

    python build.py feedparser-6.0.14.tar.gz reader-3.26.tar.gz vega-datasets-3.2.1.tgz

The first two are source archives on the Python Package Index, the third is on npm.  Documents are
taken as they are, under `feeds/FORM/NAME`; of the earthquakes (a week of the feed of the United
States Geological Survey) what a reader shows.  The same archives give the same bytes.
"""

from __future__ import annotations

import io
import json
import lzma
import sys
import tarfile
from pathlib import Path, PurePosixPath

TARGET = Path(__file__).resolve().parent.parent / "origin" / "corpus.tar.xz"
FOLDERS = {
    "wellformed/atom10": ("atom10", 160),
    "wellformed/atom": ("atom03", 100),
    "wellformed/rss": ("rss", 191),
    "wellformed/rdf": ("rdf", 20),
    "wellformed/cdf": ("cdf", 20),
    "wellformed/itunes": ("itunes", 40),
    "wellformed/media-rss": ("media", 20),
    "wellformed/namespace": ("namespace", 30),
    "wellformed/geo": ("geo", 20),
    "wellformed/lang": ("lang", 30),
    "wellformed/sanitize": ("sanitise", 340),
    "illformed": ("broken", 20),
    "illformed/chardet": ("charset", 20),
    "encoding": ("encoding", 40),
}
"""Folder of feedparser's tests: our name for it, and how many documents at most."""

WITHOUT_ITEMS = ("acceptable_", "feed_", "style_")
"""Beginnings of names in wellformed/sanitize that say nothing about items."""

READER = ("full.atom", "full.rss", "relative.atom", "relative.rss", "custom.atom", "custom.rss")
SHOWN = ("mag", "place", "time", "url", "title")
DOCUMENT_BYTES_MAX = 200_000


def documents(archive: Path) -> list[tuple[str, bytes]]:
    """Chosen documents with the names that they get."""
    taken: dict[str, int] = {}
    found = []
    with tarfile.open(archive) as tar:
        for member in sorted(tar.getmembers(), key=lambda m: m.name):
            path = PurePosixPath(member.name)
            form = form_of(path)
            if not member.isfile() or not form or member.size > DOCUMENT_BYTES_MAX:
                continue
            taken[form] = taken.get(form, 0) + 1
            most = next((n for f, n in FOLDERS.values() if f == form), len(READER))
            if taken[form] <= most:
                file = tar.extractfile(member)
                assert file is not None
                found.append((f"feeds/{form}/{path.name}", file.read()))
    return found


def form_of(path: PurePosixPath) -> str:
    folder = "/".join(path.parts[1:-1])
    if folder == "tests/data" and path.name in READER:
        return "reader"
    if folder.endswith("/sanitize") and path.name.startswith(WITHOUT_ITEMS):
        return ""
    if path.suffix == ".xml" and folder.startswith("tests/"):
        return FOLDERS.get(folder.removeprefix("tests/"), ("", 0))[0]
    return ""


def earthquakes(archive: Path) -> bytes:
    """Oldest first, a JSON object each line."""
    with tarfile.open(archive) as tar:
        file = tar.extractfile("package/data/earthquakes.json")
        assert file is not None
        features = json.load(file)["features"]
    features.sort(key=lambda f: f["properties"]["time"])
    lines = [
        json.dumps(
            {"id": f["id"], **{k: f["properties"][k] for k in SHOWN}},
            separators=(",", ":"),
            ensure_ascii=False,
        )
        for f in features
        if f["properties"]["title"] and f["properties"]["mag"] is not None
    ]
    return ("\n".join(lines) + "\n").encode()


def main() -> None:
    feedparser, reader, datasets = (Path(word) for word in sys.argv[1:4])
    files = [*documents(feedparser), *documents(reader)]
    files.append(("earthquakes.jsonl", earthquakes(datasets)))
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o644
            tar.addfile(info, io.BytesIO(data))
    TARGET.write_bytes(lzma.compress(raw.getvalue(), preset=9 | lzma.PRESET_EXTREME))
    sys.stdout.write(f"{len(files) - 1} documents, {TARGET.stat().st_size} bytes\n")


if __name__ == "__main__":
    main()
