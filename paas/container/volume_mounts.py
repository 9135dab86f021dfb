"""Mounting the volumes of a container, by its first process, in its own mount namespace.

A volume is shown at its path as a mount of its own, so what is below it is neither in the writable
layer nor in its bounds.  Directories on the way there are made; one that the base or the bundle
brings must be a plain directory, since a link would lead the mount elsewhere.
"""

from __future__ import annotations

import os

from paas.container.filesystems.views import ROOT, plain_directory
from paas.container.plan import LaunchOrder
from paas.real import kernel_volume


def mount_volumes(order: LaunchOrder) -> None:
    """After everything else of the root, which they may be shown on top of."""
    root = f"{order.directory}/{ROOT}"
    for volume in order.volumes:
        path = root
        for name in volume.path.strip("/").split("/"):
            path = f"{path}/{name}"
            fresh = not os.path.lexists(path)
            plain_directory(path)
            if fresh:
                os.chown(path, order.uid_base, order.uid_base)
        kernel_volume.mount(volume.device, path, volume.owners, order.uid_base)
