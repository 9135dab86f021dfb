"""Agents give up the right to read their own program: whatever keys need is loaded before."""

import subprocess
import sys

PROGRAM = """
import sys
from paas.identity import csr, keys, names, x509

before = set(sys.modules)
key = keys.make_key()
x509.make_authority("c", key, serial=1, now_ms=0, life_s=3600)
csr.make(names.AgentName("c", "n", "hub", "h"), keys.make_key())
keys.sign(key, b"text")
keys.read_key(keys.key_pem(key))
print(*sorted(set(sys.modules) - before))
"""


def test_nothing_is_loaded_at_the_first_use_of_a_key() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []
