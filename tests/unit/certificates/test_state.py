from __future__ import annotations

import errno

import pytest

from paas.base.errors import PlatformError
from paas.certificates.limits import STATE_BYTES_MAX
from paas.certificates.state import AUTHORITY_FILE, ISSUED_FILE, Record, Store
from paas.identity import keys

RECORD = Record(serial="0" * 32, name="spiffe://c1/node/n1/agent/hub/a1", key="f" * 64, end_ms=5)


def test_records_come_back(rig) -> None:
    store = Store(rig.disk)
    assert store.load_issued() is None
    store.save_issued([RECORD])
    assert store.load_issued() == [RECORD]
    store.save_issued([])
    assert store.load_issued() == []


def test_no_temporary_file_stays(rig) -> None:
    Store(rig.disk).save_issued([RECORD])
    assert rig.disk.list() == [ISSUED_FILE]


def test_records_torn_anywhere_are_refused_by_name(rig) -> None:
    store = Store(rig.disk)
    store.save_issued([RECORD])
    whole = bytes(rig.disk.names[ISSUED_FILE])
    for end in range(len(whole)):
        rig.disk.names[ISSUED_FILE][:] = whole[:end]
        with pytest.raises(PlatformError) as caught:
            store.load_issued()
        assert (caught.value.code, caught.value.data["file"]) == ("corrupt", ISSUED_FILE)
        assert "backup" in caught.value.hint


def test_a_changed_bit_in_the_records_is_noticed(rig) -> None:
    store = Store(rig.disk)
    store.save_issued([RECORD])
    for place in range(len(rig.disk.names[ISSUED_FILE])):
        rig.disk.names[ISSUED_FILE][place] ^= 1 << place % 8
        with pytest.raises(PlatformError, match="damaged"):
            store.load_issued()
        rig.disk.names[ISSUED_FILE][place] ^= 1 << place % 8


def test_an_authority_torn_anywhere_is_refused_by_name(rig) -> None:
    rig.open()
    whole = bytes(rig.disk.names[AUTHORITY_FILE])
    for end in range(0, len(whole) - 1, 5):
        rig.disk.names[AUTHORITY_FILE][:] = whole[:end]
        with pytest.raises(PlatformError) as caught:
            rig.open()
        assert (caught.value.code, caught.value.data["file"]) == ("corrupt", AUTHORITY_FILE)


def test_an_authority_with_the_key_of_another_is_refused(rig) -> None:
    rig.open()
    whole = bytes(rig.disk.names[AUTHORITY_FILE])
    certificate = whole[whole.find(b"-----BEGIN CERTIFICATE") :]
    rig.disk.names[AUTHORITY_FILE][:] = keys.key_pem(keys.make_key()) + certificate
    with pytest.raises(PlatformError, match="do not belong together"):
        rig.open()


def test_an_authority_whose_certificate_was_changed_is_refused(rig) -> None:
    rig.open()
    whole = bytes(rig.disk.names[AUTHORITY_FILE])
    changed = 0
    for place in range(whole.find(b"-----BEGIN CERTIFICATE") + 28, len(whole) - 60, 11):
        damaged = bytearray(whole)
        damaged[place] = ord("A") if damaged[place] != ord("A") else ord("B")
        rig.disk.names[AUTHORITY_FILE][:] = damaged
        with pytest.raises(PlatformError, match="damaged"):
            rig.open()
        changed += 1
    assert changed > 20


def test_an_oversized_file_is_not_read(rig) -> None:
    rig.disk.names[ISSUED_FILE] = bytearray(STATE_BYTES_MAX + 1)
    with pytest.raises(PlatformError, match="too many"):
        Store(rig.disk).load_issued()


@pytest.mark.parametrize(
    ("number", "code"),
    [(errno.ENOSPC, "storage-full"), (errno.EDQUOT, "storage-full"), (errno.EIO, "internal")],
)
def test_a_failing_disk_is_a_clear_error(rig, number: int, code: str) -> None:
    store = Store(rig.disk)
    store.save_issued([RECORD])
    rig.disk.fails = number
    with pytest.raises(PlatformError) as caught:
        store.save_issued([])
    assert caught.value.code == code
    assert ISSUED_FILE in caught.value.message
    rig.disk.fails = None
    assert store.load_issued() == [RECORD]


def test_a_disk_that_cannot_be_read_is_a_clear_error(rig) -> None:
    store = Store(rig.disk)
    store.save_issued([])
    rig.disk.fails = errno.EIO
    with pytest.raises(PlatformError, match="cannot be used"):
        store.load_issued()


def test_what_an_interrupted_write_left_is_replaced(rig) -> None:
    rig.disk.names[f"{ISSUED_FILE}.new"] = bytearray(b"x" * 10_000)
    store = Store(rig.disk)
    store.save_issued([RECORD])
    assert store.load_issued() == [RECORD]
