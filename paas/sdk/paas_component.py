"""Write a component of the platform in Python: one file, standard library only, from 3.9 on.

    from paas_component import Component

    component = Component()

    @component.operation("greet")
    def greet(inputs, call):
        return {"text": f"Hello, {inputs['name']}!"}

    component.run()

What an operation returns (any JSON value) becomes the outputs of the call; return
`Result(outputs, attachments)` to add binary payload.  An exception becomes the error `failed` with
its message; its traceback goes to standard error, where `paas logs` finds it.  Raise
`ComponentError(code, message)` to answer with another code.

Operations run in a small pool of threads: protect what they share.  One that is quick and waits for
nothing may say `inline=True`: it runs without a thread of its own, and many more can be answered.
In operations and outside of them, `component.call("group:store", "get", {})` asks another
component.  Events of watches come in order.

As a class, with methods marked by `operation`; with asyncio (`AsyncComponent`) or trio
(`TrioComponent`), where operations may be `async def` and what asks is awaited:

    class Greeter(AsyncComponent):
        @operation
        async def greet(self, inputs, call):
            return await self.call("group:words", "hello", inputs)

    asyncio.run(Greeter().run())

The wire: JSON-RPC 2.0, one object a line, on the socket `PAAS_SOCKET` or the descriptor `PAAS_FD`;
with `codec="msgpack"`, frames of msgpack, if that package is in the bundle.
"""

from __future__ import annotations

import importlib.util
import linecache
from pathlib import Path


def _load() -> None:
    """In the source tree this file stands for the one that bundles get: made and run here."""
    path = Path(__file__).resolve().with_name("joined.py")
    spec = importlib.util.spec_from_file_location("paas_component_joined", path)
    assert spec is not None
    assert spec.loader is not None
    joined = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(joined)
    text, name = joined.source(), f"{__file__} (joined)"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    exec(compile(text, name, "exec"), globals())


_load()
