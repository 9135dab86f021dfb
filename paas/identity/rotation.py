"""When certificates and authority keys change: functions of now, tested without a clock.

A leaf certificate is renewed at half of its life; each holder waits a little longer than half, by
chance, so that a cluster started at once does not renew at once.

An authority goes through three phases, each told from the numbers alone:

    prepared ──(everybody has had time to learn it)──> active ──(its successor is active)──> old
       old ──(the last certificate it signed has ended)──> removed

so that at every moment each verifier trusts every authority whose certificates are in use.
"""

from __future__ import annotations


def should_rotate(now_ms: int, begin_ms: int, end_ms: int) -> bool:
    """Half of the life is over, or the end has passed."""
    if begin_ms >= end_ms:
        raise ValueError("a life ends after it begins")
    return now_ms >= begin_ms + (end_ms - begin_ms) // 2


def renewal_time_ms(begin_ms: int, end_ms: int, fraction: float) -> int:
    """When this holder renews: in the tenth of the life after its half; `fraction` in [0, 1)."""
    if begin_ms >= end_ms:
        raise ValueError("a life ends after it begins")
    if not 0 <= fraction < 1:
        raise ValueError("the fraction is in [0, 1)")
    life_ms = end_ms - begin_ms
    return begin_ms + life_ms // 2 + int(life_ms // 10 * fraction)


def should_activate(now_ms: int, prepared_ms: int, propagation_ms: int) -> bool:
    """A prepared authority signs only when every verifier had time to learn of it."""
    return now_ms >= prepared_ms + propagation_ms


def should_retire(now_ms: int, last_leaf_end_ms: int, skew_ms: int) -> bool:
    """An old authority is trusted until the last certificate it signed has ended everywhere."""
    return now_ms > last_leaf_end_ms + skew_ms
