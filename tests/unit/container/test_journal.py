"""Records come back as they were written, or are named as damaged."""

from __future__ import annotations

from msgspec.structs import replace

from paas.container.journal import Journal, Record
from paas.container.messages import Exited, Grant

RECORD = Record(component="a" * 40, incarnation=1, phase="preparing", boot="b", since_ms=5)


class MemoryStore:
    """Files in a dictionary."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def names(self) -> list[str]:
        return list(self.files)

    def read(self, name: str) -> bytes | None:
        return self.files.get(name)

    def replace(self, name: str, data: bytes) -> None:
        self.files[name] = data

    def remove(self, name: str) -> None:
        self.files.pop(name, None)


def test_a_record_comes_back() -> None:
    store = MemoryStore()
    exited = Exited(component=RECORD.component, reason="exit:1", code=1)
    record = replace(
        RECORD, phase="exited", uid_base=1, address="10.0.0.2", endpoints={"a": ("h", 1)},
        exited=exited,
    )  # fmt: skip
    Journal(store).save(RECORD)
    Journal(store).save(record)
    assert Journal(store).load() == ([record], [])
    Journal(store).remove(record.component)
    Journal(store).remove(record.component)
    assert Journal(store).load() == ([], [])


def test_a_damaged_record_is_named_and_strange_files_are_left_alone() -> None:
    store = MemoryStore()
    Journal(store).save(RECORD)
    store.files[f"{'c' * 40}.container.json"] = b'{"component":'
    store.files["notes.txt"] = b"?"
    store.files["short.container.json"] = b"{}"
    assert Journal(store).load() == ([RECORD], ["c" * 40])


def test_grants_come_back_and_damaged_grants_are_closed() -> None:
    store = MemoryStore()
    grants = {Grant(source="a" * 40, target="b" * 40, port=80)}
    assert Journal(store).load_grants() == set()
    Journal(store).save_grants(grants)
    assert Journal(store).load_grants() == grants
    store.files["grants.json"] = b"["
    assert Journal(store).load_grants() == set()
