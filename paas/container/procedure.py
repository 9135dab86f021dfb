"""Running a list of hooks: forward for preparation, backward for destruction, nothing left behind.

Every hook has a deadline.  A preparation that fails or is cancelled is followed by the whole
destruction, shielded from the cancellation; a destruction runs every hook whatever the others did.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio

from paas.base.errors import PlatformError
from paas.container import limits
from paas.container.hooks.contract import Context, Hook


class DestroyFailed(Exception):
    """Some hooks could not remove what they made; the destruction may be repeated."""

    def __init__(self, errors: Sequence[tuple[str, BaseException]]) -> None:
        self.errors = tuple(errors)
        super().__init__("; ".join(f"{name}: {exc}" for name, exc in errors))


async def prepare(
    hooks: Sequence[Hook], context: Context, monotonic_s: Callable[[], float]
) -> None:
    """Run every `prepare`; on failure run every `destroy` and raise what failed."""
    try:
        for hook in hooks:
            since = monotonic_s()
            try:
                with trio.fail_after(limits.HOOK_DEADLINE_S):
                    await hook.prepare(context)
            except trio.TooSlowError:
                raise PlatformError(
                    "timeout", f"preparing the {hook.name} of the container took too long"
                ) from None
            context.timings_ms[hook.name] = round((monotonic_s() - since) * 1e3, 3)
    except BaseException as cause:
        with trio.CancelScope(shield=True):
            try:
                await destroy(hooks, context)
            except DestroyFailed as exc:
                cause.add_note(f"and not everything could be removed: {exc}")
                raise cause from exc
        raise


async def destroy(hooks: Sequence[Hook], context: Context) -> None:
    """Run every `destroy` in reverse order; raises DestroyFailed after all have run."""
    errors: list[tuple[str, BaseException]] = []
    with trio.CancelScope(shield=True):
        for hook in reversed(hooks):
            try:
                with trio.fail_after(limits.DESTROY_DEADLINE_S):
                    await hook.destroy(context)
            except Exception as exc:
                errors.append((hook.name, exc))
    if errors:
        raise DestroyFailed(errors)
