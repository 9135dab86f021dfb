"""The certificate manager's process, with the authorities of its node in it; its directory."""

from __future__ import annotations

import os
from typing import Any

import trio

from paas.assembly.process import Agent
from paas.certificates.agent import prepare_directory
from paas.certificates.agent import run as run_manager
from paas.certificates.settings import Settings
from paas.node.settings import CERTIFICATES_UID, HUB_UID, NodeSettings
from paas.real.files import SystemFile, SystemFiles


async def body(
    agent: Agent, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Open or make the authorities, answer on the socket."""
    start = agent.start
    directory = agent.directories["certificates"]
    prepare_directory(directory)
    node = NodeSettings(state=start.settings["state"], cluster=start.cluster, node=start.node)
    settings = Settings(
        cluster=start.cluster,
        node=start.node,
        directory=directory,
        socket_path=node.authority_socket,
        spawner_pid=start.settings["spawner"],
        may_begin=not start.settings.get("joined", False),
        hub_uid=HUB_UID,
    )

    def notice(event: str, **facts: Any) -> None:
        agent.log.info("certificates.notice", what=event, **facts)

    async with trio.open_nursery() as nursery:
        await nursery.start(_manager(agent, settings, SystemFiles(directory), notice))
        task_status.started()


def _manager(agent: Agent, settings: Settings, files: Any, notice: Any) -> Any:
    async def run(*, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        await run_manager(
            settings,
            files=files,
            clock=agent.clock,
            entropy=agent.entropy,
            notice=notice,
            task_status=task_status,
        )

    return run


class ManagerFiles(SystemFiles):
    """The manager's directory for a program of root's that prepares it: a joining.

    Directory and files belong to the manager's user and are closed to all others before anything is
    written into them.
    """

    def __init__(self, root: str, uid: int = CERTIFICATES_UID) -> None:
        super().__init__(root)
        self._uid = uid
        os.chown(self.root, uid, uid, follow_symlinks=False)
        os.chmod(self.root, 0o700)

    def open(self, path: str, *, create: bool = False) -> SystemFile:
        file = super().open(path, create=create)
        if create:
            place = os.path.join(self.root, path)
            os.chown(place, self._uid, self._uid, follow_symlinks=False)
        return file
