"""The section `volumes` of a manifest."""

from __future__ import annotations

import pytest

from paas.base.errors import PlatformError
from paas.bundle import manifest

MINIMAL = '[component]\nname = "db"\nversion = "1"\ncommand = ["./db"]\n'


def parse(text: str) -> manifest.Manifest:
    return manifest.parse(f"{MINIMAL}{text}".encode())


def test_volumes_are_read_and_written_in_canonical_form() -> None:
    read = parse('[volumes.data]\npath = "/data"\nsize = "1G"\n')
    assert read.volumes == {"data": manifest.Volume(path="/data", size=1 << 30, on_loss="wait")}
    assert manifest.from_plain(read.to_plain()) == read


@pytest.mark.parametrize(
    "path", ["/data", "/var/lib/db", "/app/data", "/a/b/c", "/srv/d.1_x-y", "/home/component"]
)
def test_a_volume_may_be_where_nothing_of_the_platform_is(path: str) -> None:
    assert parse(f'[volumes.d]\npath = "{path}"\nsize = "8M"\n').volumes["d"].path == path


@pytest.mark.parametrize(
    "path",
    [
        *("data", "/", "", "/data/", "//data", "/data/..", "/../data", "/./x", "/a b", "/ä"),
        *("/app", "/tmp/x", "/proc", "/dev/shm", "/sys/x", "/etc/db", "/usr/lib/x", "/run/x"),
        *("/" + "x" * 65, "/x" * 101, "/lib64/x", "/bin/x"),
    ],
)
def test_a_path_that_could_harm_is_refused_by_its_field(path: str) -> None:
    with pytest.raises(PlatformError) as refused:
        parse(f'[volumes.d]\npath = "{path}"\nsize = "8M"\n')
    assert refused.value.code == "invalid"
    assert refused.value.data["field"] == "volumes.d.path"
    assert refused.value.data["line"] == 6


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('[volumes.d]\npath = "/d"\n', "volumes.d.size"),
        ('[volumes.d]\nsize = "8M"\n', "volumes.d.path"),
        ('[volumes.d]\npath = "/d"\nsize = "1M"\n', "volumes.d.size"),
        ('[volumes.d]\npath = "/d"\nsize = "2000T"\n', "volumes.d.size"),
        ('[volumes.d]\npath = "/d"\nsize = "8M"\non_loss = "weep"\n', "volumes.d.on_loss"),
        ('[volumes.D]\npath = "/d"\nsize = "8M"\n', "volumes.D"),
        ('[volumes.d]\npath = "/d"\nsize = "8M"\nmode = 1\n', "volumes.d.mode"),
    ],
)
def test_what_is_wrong_is_named(text: str, field: str) -> None:
    with pytest.raises(PlatformError) as refused:
        parse(text)
    assert refused.value.data["field"] == field


@pytest.mark.parametrize("other", ["/data", "/data/log"])
def test_no_volume_is_within_another(other: str) -> None:
    text = '[volumes.a]\npath = "/data"\nsize = "8M"\n'
    with pytest.raises(PlatformError) as refused:
        parse(f'{text}[volumes.b]\npath = "{other}"\nsize = "8M"\n')
    assert "is within the volume" in refused.value.message


def test_a_component_has_a_bounded_number_of_volumes() -> None:
    text = "".join(f'[volumes.v{n}]\npath = "/v{n}"\nsize = "8M"\n' for n in range(9))
    with pytest.raises(PlatformError) as refused:
        parse(text)
    assert "at most 8" in refused.value.message
