"""A manifest is accepted whole and canonical, or refused with file, line, field and expectation."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paas.base.errors import PlatformError
from paas.bundle import limits, manifest

FULL = """\
[component]
name = "greeter"
version = "1.0.0"
description = "says hello"
command = ["python3", "greeter.py"]
base = "host"
protocol = "json"

[limits]
memory = "64M"
cpu = 0.5
pids = 64
disk = "128M"

[endpoints.http]
protocol = "http"

[requires.store]
group = "kv-store"

[supervision]
restart = "permanent"
max_restarts = 5
within = 60
ready_timeout = "90s"
stop_timeout = 5

[environment]
LANG = "C.UTF-8"
"""

MINIMAL = '[component]\nname = "a"\nversion = "1"\ncommand = ["x"]\n'


def refusal(text: str) -> PlatformError:
    with pytest.raises(PlatformError) as caught:
        manifest.parse(text.encode())
    return caught.value


def test_a_whole_manifest_is_read_in_canonical_units() -> None:
    read = manifest.parse(FULL.encode())
    assert read.type_name == "greeter@1.0.0"
    assert read.component.command == ("python3", "greeter.py")
    assert read.limits == manifest.Limits(memory=64 << 20, cpu=0.5, pids=64, disk=128 << 20)
    assert read.endpoints == {"http": manifest.Endpoint(protocol="http")}
    assert read.requires == {"store": manifest.Requirement(group="kv-store")}
    assert read.supervision.ready_timeout == 90.0
    assert read.supervision.stop_timeout == 5.0
    assert read.environment == {"LANG": "C.UTF-8"}


def test_optional_fields_have_the_defaults_of_the_component_api() -> None:
    read = manifest.parse(MINIMAL.encode())
    assert read.component.base == "host"
    assert read.component.protocol == "json"
    assert read.limits == manifest.Limits(memory=64 << 20, cpu=0.5, pids=64, disk=128 << 20)
    assert read.supervision == manifest.Supervision(
        restart="permanent", max_restarts=5, within=60, ready_timeout=30, stop_timeout=10
    )


@pytest.mark.parametrize(
    ("written", "bytes_per_s"),
    [('"20M"', 20 << 20), ("65536", 65_536), ('"1MB"', 1_000_000), ("0", 0)],
)
def test_a_limit_of_disk_io_is_read_in_bytes_per_second(written: str, bytes_per_s: int) -> None:
    read = manifest.parse(f"{MINIMAL}[limits]\nio = {written}\n".encode())
    assert read.limits == manifest.Limits(io=bytes_per_s)
    assert manifest.from_plain(read.to_plain()) == read


def test_no_limit_of_disk_io_unless_asked_for() -> None:
    assert manifest.parse(MINIMAL.encode()).limits.io == 0


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("1", "from 64K to 1T"),
        ('"2T"', "from 64K to 1T"),
        ('"20M/s"', "bytes per second"),
        ("false", "0 for no limit"),
        ("0.0", "0 for no limit"),
        ("-1", "0 for no limit"),
    ],
)
def test_a_wrong_limit_of_disk_io_is_refused(written: str, expected: str) -> None:
    error = refusal(f"{MINIMAL}[limits]\nio = {written}\n")
    assert (error.code, error.data["line"], error.data["field"]) == ("invalid", 6, "limits.io")
    assert expected in error.message


@pytest.mark.parametrize("text", [FULL, MINIMAL])
def test_the_plain_form_reads_back_equal_through_json_and_msgpack(text: str) -> None:
    read = manifest.parse(text.encode())
    plain = read.to_plain()
    assert manifest.from_plain(plain) == read
    assert manifest.from_plain(json.loads(json.dumps(plain))) == read
    assert manifest.from_plain(msgspec.msgpack.decode(msgspec.msgpack.encode(plain))) == read


@pytest.mark.parametrize(
    ("old", "new", "line", "field", "expected"),
    [
        ('name = "greeter"', 'name = "Greeter"', 2, "component.name", "lower-case letters"),
        ('name = "greeter"', "name = 7", 2, "component.name", "lower-case letters"),
        ('version = "1.0.0"', 'version = "1 0"', 3, "component.version", '"1.0.0"'),
        ('version = "1.0.0"', "version = 1.0", 3, "component.version", "a string"),
        ('name = "greeter"\n', "", 1, "component.name", "is required"),
        ("command =", "comand =", 5, "component.comand", 'did you mean "command"?'),
        ('["python3", "greeter.py"]', "[]", 5, "component.command", "a list of strings"),
        ('["python3", "greeter.py"]', '"x"', 5, "component.command", "a list of strings"),
        ('["python3", "greeter.py"]', '["x", 1]', 5, "component.command", "a list of strings"),
        ('["python3", "greeter.py"]', '[" "]', 5, "component.command", "a list of strings"),
        ('["python3", "greeter.py"]', '["a\\u0000"]', 5, "component.command", "NUL"),
        ('base = "host"', 'base = "../x"', 6, "component.base", "base layer"),
        ('protocol = "json"', 'protocol = "xml"', 7, "component.protocol", '"msgpack"'),
        ('"says hello"', "1", 4, "component.description", "a string"),
        ("[limits]", "[limit]", 9, "limit", 'did you mean "limits"?'),
        ("[limits]", "[wholly_other]", 9, "wholly_other", 'one of "component"'),
        ("memory =", "memroy =", 10, "limits.memroy", 'did you mean "memory"?'),
        ('"64M"', '"1K"', 10, "limits.memory", "from 4M"),
        ('"64M"', '"999P"', 10, "limits.memory", "to 16T"),
        ('"64M"', "-5", 10, "limits.memory", "a size"),
        ('"64M"', "true", 10, "limits.memory", "a size"),
        ('"64M"', '"64 apples"', 10, "limits.memory", '"64M"'),
        ("cpu = 0.5", "cpu = 0", 11, "limits.cpu", "above 0"),
        ("cpu = 0.5", "cpu = nan", 11, "limits.cpu", "cores"),
        ("cpu = 0.5", "cpu = inf", 11, "limits.cpu", "cores"),
        ("cpu = 0.5", "cpu = 1000000", 11, "limits.cpu", "at most 4096"),
        ("pids = 64", "pids = 0", 12, "limits.pids", "from 1"),
        ("pids = 64", "pids = 1.5", 12, "limits.pids", "a whole number"),
        ("pids = 64", "pids = true", 12, "limits.pids", "a whole number"),
        ('"128M"', "1979-05-27", 13, "limits.disk", "a size"),
        ("[endpoints.http]", "[endpoints.HTTP]", 15, "endpoints.HTTP", "lower-case"),
        ('protocol = "http"', "port = 80", 16, "endpoints.http.port", "unknown field"),
        ('protocol = "http"', "protocol = 80", 16, "endpoints.http.protocol", "a protocol"),
        ('group = "kv-store"', "", 18, "requires.store.group", "is required"),
        ('group = "kv-store"', 'group = "a b"', 19, "requires.store.group", "a group"),
        ('"permanent"', '"always"', 22, "supervision.restart", '"transient"'),
        ("max_restarts = 5", "max_restarts = -1", 23, "supervision.max_restarts", "from 0"),
        ("within = 60", "within = 0", 24, "supervision.within", "above 0"),
        ('"90s"', '"2d"', 25, "supervision.ready_timeout", "at most 86400"),
        ('LANG = "C.UTF-8"', "LANG = 1", 29, "environment.LANG", "a string"),
        ('LANG = "C.UTF-8"', '"A B" = "x"', 29, "environment.A B", "underscores"),
        ('LANG = "C.UTF-8"', 'PAAS_SOCKET = "x"', 29, "environment.PAAS_SOCKET", "platform"),
        ("stop_timeout = 5", "pids = 5", 26, "supervision.pids", "section [limits]"),
        ("[environment]", "[[environment]]", 28, "environment", "a table"),
    ],
)
def test_an_error_names_line_field_and_expectation(
    old: str, new: str, line: int, field: str, expected: str
) -> None:
    assert FULL.count(old) == 1
    error = refusal(FULL.replace(old, new))
    assert error.code == "invalid"
    assert error.data["line"] == line
    assert error.data["field"] == field
    assert error.data["file"] == "component.toml"
    assert error.message.startswith(f"component.toml:{line}: {field}: ")
    assert expected in error.message


def test_an_error_in_an_inline_or_dotted_form_has_its_line_too() -> None:
    error = refusal('component = { name = "a", version = "1", command = ["x"] }\nlimits.cpu = -1\n')
    assert (error.data["line"], error.data["field"]) == (2, "limits.cpu")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[component\n", 1),
        ("\n\nname = \n", 3),
        ("a = 1\na = 2\n", 2),
        ("a = [\n", 2),
        ("a = " + "[" * 20_000, 1),
        ("a = " + "9" * 10_000, 1),
    ],
)
def test_text_that_is_not_toml_is_refused_with_its_line(text: str, line: int) -> None:
    error = refusal(text)
    assert error.code == "invalid"
    assert error.data["line"] == line


def test_bytes_that_are_not_text_are_refused_with_their_line() -> None:
    with pytest.raises(PlatformError, match=r"component\.toml:2: this is not UTF-8"):
        manifest.parse(b"# x\n\xff\n")


def test_a_long_manifest_is_refused() -> None:
    assert refusal("#" * (limits.MANIFEST_BYTES_MAX + 1)).code == "limit-exceeded"


def test_too_many_entries_are_refused() -> None:
    variables = "".join(f'V{n} = "x"\n' for n in range(limits.TABLE_ENTRIES_MAX + 1))
    error = refusal(f"{MINIMAL}[environment]\n{variables}")
    assert (error.data["line"], error.data["field"]) == (5, "environment")


def test_a_plain_manifest_is_refused_by_field_without_a_line() -> None:
    plain = manifest.parse(MINIMAL.encode()).to_plain()
    plain["limits"]["pids"] = "many"
    with pytest.raises(PlatformError, match=r"limits\.pids: expected a whole number") as caught:
        manifest.from_plain(plain)
    assert caught.value.data["field"] == "limits.pids"
    assert "line" not in caught.value.data


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*manifest.fields.SECTION_NAMES, "name", "version", "command", "cpu"])
            | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(_json)
def test_any_plain_value_is_a_manifest_or_an_error_of_the_catalogue(value: Any) -> None:
    try:
        read = manifest.from_plain(value)
    except PlatformError:
        return
    assert manifest.from_plain(read.to_plain()) == read
