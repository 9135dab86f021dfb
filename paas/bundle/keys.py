"""Publisher keys as files (io): generated once per developer, readable by the owner alone.

The format is `signature`'s.  A key file that others may read is refused, as a copy of it may exist.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from paas.base.errors import PlatformError
from paas.bundle.limits import SIGNATURE_BYTES_MAX
from paas.bundle.signature import SecretKey, make_key, parse_secret_key

_FORBIDDEN_MODE = stat.S_IRWXG | stat.S_IRWXO


def generate() -> SecretKey:
    """A new key from the kernel's entropy."""
    return make_key(os.urandom(40))


def save(key: SecretKey, path: Path) -> None:
    """Write the secret key (mode 0600) and, beside it, the public key as `<name>.pub`.

    An existing key is never overwritten: that raises `conflict`.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _write_new(path, key.text(), 0o600)
    public = path.with_name(path.name + ".pub")
    with contextlib.suppress(FileNotFoundError):
        public.unlink()
    _write_new(public, key.public.text(), 0o644)


def load(path: Path) -> SecretKey:
    """Read a secret key; raises `invalid` when it is none, or when others may read the file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise PlatformError("invalid", f"{path}: there is no secret key") from None
    with open(descriptor, "rb") as file:
        if stat.S_IMODE(os.fstat(descriptor).st_mode) & _FORBIDDEN_MODE:
            raise PlatformError(
                "invalid",
                f"{path}: the secret key can be read by others",
                hint=f"if nobody copied it: chmod 600 {path}",
            )
        return parse_secret_key(file.read(SIGNATURE_BYTES_MAX).decode("utf-8", "replace"))


def load_or_generate(path: Path) -> SecretKey:
    """The key at `path`, made first when there is none."""
    if not path.exists():
        with contextlib.suppress(PlatformError):  # somebody else made it meanwhile: use theirs
            save(generate(), path)
    return load(path)


def _write_new(path: Path, text: str, mode: int) -> None:
    """Write a whole file under a name that is free; a crash leaves no half of it there."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(descriptor, mode)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        os.link(temporary, path)
    except FileExistsError:
        raise PlatformError("conflict", f"{path}: there is a key already") from None
    finally:
        temporary.unlink()
