"""The JSON of images: what is wrong is said, and names follow from content."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paas.base.errors import PlatformError
from paas.oci import documents, limits
from paas.oci.documents import Defaults, Layer

ONE, TWO = ("sha256:" + digit * 64 for digit in "12")


REFUSALS = ("", "invalid", "unsupported", "limit-exceeded")


def outcome(reader: Callable[..., object], *data: bytes) -> str:
    """The code of the refusal; empty when there was none."""
    try:
        reader(*data)
    except PlatformError as exc:
        return exc.code
    return ""


def image(
    *, layers: Any = None, diff_ids: Any = None, config: Any = None, **more: Any
) -> tuple[bytes, bytes]:
    """Manifest and configuration of a small image, with changes."""
    settings = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [ONE] if diff_ids is None else diff_ids},
        "config": config or {},
        **more,
    }
    data = json.dumps(settings).encode()
    manifest = {
        "schemaVersion": 2,
        "config": {"digest": documents.digest_of(data), "size": len(data)},
        "layers": [{"digest": TWO, "size": 5}] if layers is None else layers,
    }
    return json.dumps(manifest).encode(), data


def test_layers_and_defaults_are_read() -> None:
    runtime = {
        "Env": ["A=1", "B=x=y", "PAAS_X=ours", "no-name=1", "broken"],
        "Entrypoint": ["/bin/sh"],
        "Cmd": ["-c", "true"],
        "WorkingDir": "/srv",
        "User": "7",
    }
    found = documents.read_image(*image(config=runtime))
    assert found.layers == (Layer(digest=TWO, size=5, diff_id=ONE),)
    assert found.defaults == Defaults(
        environment={"A": "1", "B": "x=y"},
        command=("/bin/sh", "-c", "true"),
        user="7",
        directory="/srv",
    )
    assert found.chain == ONE


def test_a_chain_is_named_as_the_specification_says() -> None:
    """ChainID(L0|L1) = digest(L0 + " " + L1)."""
    assert documents.chain_id([ONE]) == ONE
    assert documents.chain_id([ONE, TWO]) == documents.digest_of(f"{ONE} {TWO}".encode())
    assert documents.chain_id([ONE, TWO]) != documents.chain_id([TWO, ONE])


@pytest.mark.parametrize(
    ("changes", "code", "reason"),
    [
        ({"diff_ids": [ONE, TWO]}, "invalid", "1 layers and 2 diff ids"),
        ({"diff_ids": []}, "invalid", "1 to 127 layers"),
        ({"diff_ids": [ONE] * 128, "layers": []}, "invalid", "1 to 127 layers"),
        ({"diff_ids": ["sha256:short"]}, "unsupported", "sha256"),
        ({"diff_ids": ["../../etc"]}, "invalid", "sha256: and 64"),
        ({"layers": [{"digest": "sha512:" + "1" * 128, "size": 5}]}, "unsupported", "only sha256"),
        ({"layers": [{"digest": "sha256:" + "A" * 64, "size": 5}]}, "unsupported", "sha256"),
        ({"layers": [{"digest": TWO, "size": 0}]}, "limit-exceeded", "a layer has 1 to"),
        ({"layers": [{"digest": TWO, "size": -5}]}, "limit-exceeded", "a layer has 1 to"),
        ({"layers": [{"digest": TWO, "size": 1 << 40}]}, "limit-exceeded", "a layer has 1 to"),
        (
            {"layers": [{"digest": TWO, "size": 5, "mediaType": "x.tar+gzip+encrypted"}]},
            "unsupported",
            "encrypted",
        ),
        ({"os": "windows"}, "unsupported", "not linux"),
        ({"config": {"Env": ["A=" + "x" * 5_000]}}, "limit-exceeded", "variables"),
        ({"config": {"Cmd": ["x" * 3_000]}}, "limit-exceeded", "command"),
        ({"config": {"Cmd": ["a\0b"]}}, "invalid", "zero byte"),
        ({"rootfs": "none"}, "invalid", "configuration"),
    ],
)
def test_what_cannot_be_used_is_refused(changes: dict[str, Any], code: str, reason: str) -> None:
    with pytest.raises(PlatformError, match=reason) as caught:
        documents.read_image(*image(**changes))
    assert caught.value.code == code


def test_a_configuration_of_another_image_is_refused() -> None:
    manifest, _ = image()
    _, other = image(os="")
    with pytest.raises(PlatformError, match="not the one") as caught:
        documents.read_image(manifest, other)
    assert caught.value.code == "corrupt"


def test_too_long_a_document_is_not_read() -> None:
    with pytest.raises(PlatformError, match="more than"):
        documents.read_index(b" " * (limits.DOCUMENT_BYTES_MAX + 1))
    many = json.dumps({"manifests": [{"digest": ONE, "size": 1}] * 1_001}).encode()
    with pytest.raises(PlatformError, match="more than 1000"):
        documents.read_index(many)


def test_what_is_written_is_read_the_same_and_is_the_same_every_time() -> None:
    defaults = Defaults(environment={"B": "2", "A": "1"}, command=("/x", "y"), directory="/app")
    layers = [Layer(digest=TWO, size=5, diff_id=ONE)]
    config = documents.write_config([ONE], defaults, "amd64", ["a test"])
    manifest = documents.write_manifest(config, layers, [documents.LAYER_GZIP])
    found = documents.read_image(manifest, config)
    assert (found.layers, found.defaults) == (tuple(layers), defaults)
    assert documents.write_config([ONE], defaults, "amd64", ["a test"]) == config
    index = documents.read_index(documents.write_index(manifest, "one", "amd64"))
    assert index.manifests[0].reference() == "one"
    assert index.manifests[0].digest == found.manifest_digest


WORDS = st.sampled_from(
    ["manifests", "layers", "config", "digest", "size", "rootfs", "diff_ids", "Env", "Layers"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.just(ONE),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(value=JSON, noise=st.binary(max_size=60))
def test_whatever_json_comes_it_is_read_or_refused(value: Any, noise: bytes) -> None:
    for data in (json.dumps(value).encode(), noise):
        for reader in (documents.read_index, documents.read_config, documents.read_archive):
            assert outcome(reader, data) in REFUSALS
        assert outcome(documents.read_image, data, data) in (*REFUSALS, "corrupt")
