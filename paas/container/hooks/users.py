"""The container's own range of host users; what is 0 inside is the range's first outside.

The maps themselves are written while the process is launched; here the range is set aside, so that
no two containers of a node ever share a user.
"""

from __future__ import annotations

from msgspec.structs import replace

from paas.container.hooks.contract import Context, Ranges


class UsersHook:
    name = "users"

    def __init__(self, ranges: Ranges) -> None:
        self._ranges = ranges

    async def prepare(self, context: Context) -> None:
        # Not saved yet: a range is only a number, nothing of it could stay behind.
        context.record = replace(context.record, uid_base=self._ranges.take())

    async def destroy(self, context: Context) -> None:
        if (first := context.record.uid_base) is not None:
            self._ranges.give_back(first)
            context.save(replace(context.record, uid_base=None))
