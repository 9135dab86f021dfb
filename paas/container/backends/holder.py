"""The program that LXC starts as a container's init: 200 bytes that need no file of the container.

LXC must execute something in the namespaces that it has made.  The container's own programs cannot
be trusted with that, and may not even exist; so it is a program of ours, whole in itself, executed
through a descriptor.  It makes itself undumpable, says one byte on descriptor 3 (the kernel adds
who said it), closes every descriptor and sleeps for ever.  It has no loader, no library, no heap
and reads nothing: there is nothing in it to attack.  It ends with pid 1 of the container, whose
PID namespace it shares.

Pure: the bytes of a static ELF executable for the machine's architecture.  Sources: elf(5), the
System V ABI supplements of AMD64 and AArch64, syscall(2).
"""

from __future__ import annotations

import struct

READY_FD = 3

_ADDRESS = 0x400000
_HEADER_BYTES = 64 + 56
_X86_64, _AARCH64 = 62, 183

_CLOSE_RANGE = 436
_DUMPABLE = 4


def program(machine: str) -> bytes | None:
    """The executable file; None for an architecture that it is not written for."""
    if machine == "x86_64":
        return _file(_X86_64, _code_x86_64())
    if machine == "aarch64":
        return _file(_AARCH64, _code_aarch64())
    return None


def _code_x86_64() -> bytes:
    """rdi, rsi, rdx: arguments; eax: number of the call."""

    def set_register(opcode: int, value: int) -> bytes:
        return bytes([opcode]) + struct.pack("<I", value)

    def call(number: int, first: int, second: int = 0) -> bytes:
        registers = set_register(0xBF, first) + set_register(0xBE, second) + set_register(0xBA, 0)
        return registers + set_register(0xB8, number) + b"\x0f\x05"

    prctl, write, pause = 157, 1, 34
    code = call(prctl, _DUMPABLE)
    # One byte of the stack: where the kernel has put the number of arguments.
    code += set_register(0xBF, READY_FD) + b"\x48\x89\xe6" + set_register(0xBA, 1)
    code += set_register(0xB8, write) + b"\x0f\x05"
    code += call(_CLOSE_RANGE, 0, 0xFFFFFFFF)
    sleep = set_register(0xB8, pause) + b"\x0f\x05"
    return code + sleep + bytes([0xEB, 0x100 - len(sleep) - 2])


def _code_aarch64() -> bytes:
    """x0 to x3: arguments; w8: number of the call."""

    def set_register(register: int, value: int) -> int:
        return 0xD2800000 | value << 5 | register

    call = 0xD4000001
    prctl, write, ppoll = 167, 64, 73
    words = [set_register(0, _DUMPABLE), *(set_register(n, 0) for n in (1, 2, 3))]
    words += [set_register(8, prctl), call]
    # mov x1, sp
    words += [set_register(0, READY_FD), 0x910003E1, set_register(2, 1)]
    words += [set_register(8, write), call]
    # mov x1, -1
    words += [set_register(0, 0), 0x92800001, set_register(2, 0)]
    words += [set_register(8, _CLOSE_RANGE), call]
    sleep = [*(set_register(n, 0) for n in (0, 1, 2, 3, 4)), set_register(8, ppoll), call]
    words += [*sleep, 0x14000000 | (-len(sleep) & 0x3FFFFFF)]
    return struct.pack(f"<{len(words)}I", *words)


def _file(machine: int, code: bytes) -> bytes:
    """One header, one segment that is read and executed, the code."""
    entry, size = _ADDRESS + _HEADER_BYTES, _HEADER_BYTES + len(code)
    identity = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", identity, 2, machine, 1, entry, 64, 0, 0, 64, 56, 1, 0, 0, 0
    )
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _ADDRESS, _ADDRESS, size, size, 0x1000)
    return header + segment + code
