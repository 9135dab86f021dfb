"""What may be set of the replicated log, and what is refused when it is set."""

from __future__ import annotations

import pytest

from paas.base.errors import PlatformError
from paas.raft import limits
from paas.raft.settings import RaftSettings


@pytest.mark.parametrize("field", ["append_bytes", "snapshot_chunk_bytes"])
def test_what_goes_into_one_message_must_fit_into_one(field: str) -> None:
    for fits in (1, limits.APPEND_BYTES_MAX):
        assert getattr(RaftSettings(**{field: fits}), field) == fits  # type: ignore[arg-type]
    for wrong in (0, -1, limits.APPEND_BYTES_MAX + 1):
        with pytest.raises(PlatformError) as caught:
            RaftSettings(**{field: wrong})  # type: ignore[arg-type]
        assert (caught.value.code, caught.value.data["field"]) == ("invalid", field)


def test_no_command_is_as_long_as_what_the_library_would_cut_in_pieces() -> None:
    assert limits.COMMAND_BYTES_MAX + 1 < limits.APPEND_BYTES
