"""The certificate manager's process, with the cluster's authority in it."""

from __future__ import annotations

from typing import Any

import trio

from paas.assembly.process import Agent
from paas.certificates.agent import prepare_directory
from paas.certificates.agent import run as run_manager
from paas.certificates.settings import Settings
from paas.node.settings import NodeSettings
from paas.real.files import SystemFiles


async def body(
    agent: Agent, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Open or make the authority, answer on its socket."""
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
