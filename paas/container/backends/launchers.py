"""One launcher per back end, over the one template process; which is asked is the hook's choice.

The launchers differ in what the fork of the template does (`namespaces.py`, `lxc.py`), and in what
they need of the machine: that is found out here, before anything is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec.structs import replace

from paas.base.errors import PlatformError
from paas.container.backends import lxc
from paas.container.hooks.contract import Launcher, Process
from paas.container.plan import LaunchOrder


def _nothing() -> str | None:
    return None


_MISSING: Mapping[str, Callable[[], str | None]] = {"namespaces": _nothing, "lxc": lxc.missing}


def require(name: str) -> None:
    """Raise `unsupported` unless this machine can have containers of this back end."""
    lacking = _MISSING[name]()
    if lacking is not None:
        raise PlatformError(
            "unsupported",
            f"the back end {name} cannot be used here: {lacking}",
            hint="apt install lxc; or choose the back end namespaces",
            field="backend",
        )


class _BackEnd:
    """A launcher that gives the template its name along with the order."""

    def __init__(self, name: str, template: Launcher) -> None:
        self._name = name
        self._template = template

    async def launch(self, order: LaunchOrder, network_fd: int) -> Process:
        require(self._name)
        return await self._template.launch(replace(order, backend=self._name), network_fd)

    async def end(self, component: str, process: Process | None) -> None:
        await self._template.end(component, process)


def launchers(template: Launcher) -> dict[str, Launcher]:
    """Every back end there is, by name."""
    return {name: _BackEnd(name, template) for name in _MISSING}
