"""The lists of calls and the programs compiled from them."""

from __future__ import annotations

from paas.container.seccomp import ALLOWED, DENIED, ONLY_PID_1, compile_programs


def test_no_call_is_both_allowed_and_denied() -> None:
    assert set(ALLOWED) & set(DENIED) == set()
    assert len(set(ALLOWED)) == len(ALLOWED)
    assert set(ONLY_PID_1) <= set(ALLOWED)


def test_what_must_never_be_allowed() -> None:
    never = {"mount", "unshare", "setns", "ptrace", "bpf", "keyctl", "reboot", "clone3"}
    assert never & set(ALLOWED) == set()


def test_programs_are_whole_and_within_the_kernels_bound() -> None:
    programs = compile_programs()
    for program in (programs.calls, programs.arguments, programs.component):
        assert len(program) % 8 == 0
        assert 0 < len(program) // 8 <= 4096


def test_compiling_is_deterministic() -> None:
    assert compile_programs() == compile_programs()
