"""The lists of calls and the programs compiled from them."""

from __future__ import annotations

import struct

import pyseccomp
import pytest

from paas.container.seccomp import ALLOWED, DENIED, ONLY_PID_1, compile_programs
from tests.unit.container.docker_calls import ALLOWED_LATER, REFUSED, REFUSED_HERE_BESIDES

_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x00000000
_ARCHITECTURE = 0xC000003E
_ENOSYS, _EPERM = 38, 1
_SECCOMP_DATA_BYTES = 64


def test_no_call_is_both_allowed_and_denied() -> None:
    assert set(ALLOWED) & set(DENIED) == set()
    assert len(set(ALLOWED)) == len(ALLOWED)
    assert set(ONLY_PID_1) <= set(ALLOWED)


def test_what_must_never_be_allowed() -> None:
    never = {"mount", "unshare", "setns", "ptrace", "bpf", "keyctl", "reboot", "clone3"}
    assert never & set(ALLOWED) == set()


def test_nothing_is_allowed_that_dockers_profile_refuses() -> None:
    assert set(ALLOWED) & set(REFUSED) == set()
    assert set(ALLOWED) >= set(ALLOWED_LATER)
    assert set(ALLOWED) & set(REFUSED_HERE_BESIDES) == set()


@pytest.mark.parametrize("name", [*REFUSED, *REFUSED_HERE_BESIDES])
def test_the_compiled_program_refuses_what_docker_refuses(name: str) -> None:
    """By the instructions themselves, not by the lists that they were made from."""
    number = pyseccomp.resolve_syscall(pyseccomp.Arch.X86_64, name)
    if number < 0:
        assert name not in ALLOWED  # unknown to the library: what is not listed is refused
        return
    answer = _run(compile_programs().calls, number)
    assert answer in (_ERRNO | _EPERM, _ERRNO | _ENOSYS)


def test_the_compiled_program_lets_ordinary_calls_pass_and_ends_foreign_ones() -> None:
    program = compile_programs().calls
    for name in ("read", "openat", "futex", "execve", "landlock_restrict_self"):
        number = pyseccomp.resolve_syscall(pyseccomp.Arch.X86_64, name)
        assert _run(program, number) == _ALLOW
    assert _run(program, 468) == _ERRNO | _ENOSYS, "newer than every list"
    assert _run(program, 0, architecture=0x40000003) == _KILL
    assert _run(program, 0x40000000 | 39) == _KILL


def _run(program: bytes, number: int, architecture: int = _ARCHITECTURE) -> int:
    """A machine for classic BPF, as far as these programs use it."""
    data = struct.pack("=IIQ6Q", number, architecture, *[0] * 7)
    assert len(data) == _SECCOMP_DATA_BYTES
    code = [struct.unpack_from("=HBBI", program, at) for at in range(0, len(program), 8)]
    at = value = 0
    while True:
        operation, yes, no, operand = code[at]
        at += 1
        match operation:
            case 0x20:
                value = struct.unpack_from("=I", data, operand)[0]
            case 0x06:
                return int(operand)
            case 0x05:
                at += operand
            case 0x15:
                at += yes if value == operand else no
            case 0x25:
                at += yes if value > operand else no
            case 0x35:
                at += yes if value >= operand else no
            case 0x54:
                value &= operand
            case _:
                raise AssertionError(f"an instruction {operation:#x} is new here")


def test_programs_are_whole_and_within_the_kernels_bound() -> None:
    programs = compile_programs()
    for program in (programs.calls, programs.arguments, programs.component):
        assert len(program) % 8 == 0
        assert 0 < len(program) // 8 <= 4096


def test_compiling_is_deterministic() -> None:
    assert compile_programs() == compile_programs()
