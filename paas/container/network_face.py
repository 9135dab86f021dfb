"""`network.*` of the container controller: what the node's hub wants of its networks."""

from __future__ import annotations

from paas.container.between import Between
from paas.container.grants import Grants
from paas.network import messages
from paas.rpc.dispatch import Context, Dispatcher
from paas.wire.registry import Nothing


class NetworkFace:
    """Handlers on `Between` and `Grants`."""

    def __init__(self, between: Between, paths: Grants) -> None:
        self._between = between
        self._paths = paths

    def register(self, dispatcher: Dispatcher) -> None:
        dispatcher.plain(messages.FACTS, self._facts)
        dispatcher.task(messages.NEIGHBOURS, self._neighbours)
        dispatcher.task(messages.ADMIT, self._admit)
        dispatcher.task(messages.SHUT, self._shut)
        dispatcher.plain(messages.PATHS, self._list)
        dispatcher.task(messages.RENUMBER, self._renumber)

    def _facts(self, _params: messages.GetNetwork, _context: Context) -> messages.NetworkFacts:
        return self._between.facts()

    async def _neighbours(self, params: messages.SetNeighbours, _context: Context) -> Nothing:
        await self._between.have(params)
        return Nothing()

    async def _admit(self, params: messages.AdmitPath, _context: Context) -> messages.Admitted:
        return messages.Admitted(address=await self._between.admit(params.path))

    async def _shut(self, params: messages.ShutPaths, _context: Context) -> Nothing:
        await self._paths.shut(params.paths)
        return Nothing()

    def _list(self, _params: messages.ListPaths, _context: Context) -> messages.FarPaths:
        return messages.FarPaths(paths=self._paths.far)

    async def _renumber(self, params: messages.Renumber, _context: Context) -> Nothing:
        await self._between.renumber(params.network)
        return Nothing()
