"""Methods of a container controller about base layers.  Numbers 590-599."""

from __future__ import annotations

from paas.wire.registry import Message, Nothing, Params, method


class BaseLayer(Message, frozen=True, kw_only=True, omit_defaults=False):
    """One layer: of its stored bytes digest and size, of its tar bytes the digest."""

    digest: str
    size: int
    diff_id: str


class PrepareBase(Params, frozen=True, kw_only=True):
    """Lay an image out for a container that is about to start; the lowest layer first.

    It stays for as long as the component has a container here.  Answered `corrupt` when a layer is
    missing in the node's store or damaged.
    """

    component: str
    layers: list[BaseLayer]


class PreparedBase(Message, frozen=True, kw_only=True, omit_defaults=False):
    """The base to name in `container.start`."""

    base: str


class RetainBases(Params, frozen=True, kw_only=True):
    """Drop what was laid out of other images than these (chain ids) and is not in use."""

    chains: list[str]


class CheckBase(Params, frozen=True, kw_only=True):
    """Read what was laid out of an image again."""

    chain: str


class CheckedBase(Message, frozen=True, kw_only=True, omit_defaults=False):
    """Is it laid out here, and which files are damaged, some of many?"""

    present: bool
    damaged: list[str]


PREPARE = method(590, "container.prepare_base", PrepareBase, PreparedBase, public=False)
RETAIN = method(591, "container.drop_base", RetainBases, Nothing, public=False)
CHECK = method(592, "container.check_base", CheckBase, CheckedBase, public=False)
