"""A replica whose log is gone: how it comes back by itself, without breaking a promise.

A voter that forgot what it acknowledged, and for whom it voted, is worse than one that is dead: it
could help somebody into office who lacks committed entries.  So a replica whose journal or snapshot
is damaged puts both aside, and one that has no log and joins a cluster does the same as if it had:
it begins **mute**, and is let in again by the leader.

    mute ── Returned(nonce), again and again ──> leader: in followers() as `returned`
     │                                             │  the keeper of the members makes it no voter
     │                                             │  when that is committed: a round of appends
     │ <── Welcome(nonce, term, entry) ────────────┘
    follows ── its log holds the entry ──> settled: votes when asked, and if it is made a voter

  mute     every message but Welcome is dropped: nothing acknowledged, no vote, as if it were off
  follows  takes the log from leaders of that term or later; votes for nobody, stands for nothing
  settled  a replica like any other

Why that is enough.  Let d be the last committed configuration when the leader says Welcome; it
names this replica no voter.  The leader had a majority of d's voters confirm its term *after* the
nonce reached it, so until then no later term had a leader: whatever was committed is in its log, up
to the entry it names, on a majority without this replica.  Of what this replica had acknowledged
nothing else can ever be committed.  A leader of an earlier term, with older ideas of who votes,
finds no majority: the replica starts from the leader's term and from a vote for this leader.
Candidates who lack d count voters as they were; none but settled ones answer them, and a settled
replica has d, so it compares logs truly.

What it knows of this is in the file `returned`, durable before anything follows from it: the nonce,
and after the Welcome the *floor* (the entry that its log must hold).  A replica without a journal
never trusts an old floor.  `set_aside` keeps the damaged files beside the new ones as evidence.

If a majority is damaged at once, nobody is left who could let them in: they stay mute, which is as
safe as off, and `paas cluster recover` on the best survivor is the way out.  The only voter there
is does not begin anew: see `open_or_return`.

Raft thesis §4.1, §6.4, and §11.7.2 about servers that lose their disks.  Nothing waits in here;
times are given; the file is written by the step that hears the Welcome.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from paas.base.errors import PlatformError
from paas.base.ports import Entropy, Files
from paas.raft.configuration import Configuration
from paas.raft.journal import JournalFailed
from paas.raft.limits import DAMAGED_KEPT, RETURNED_FORGOTTEN_S, RETURNED_REPEAT_S
from paas.raft.log import ReplicatedLog
from paas.raft.messages import Message, Returned, Welcome
from paas.raft.snapshot import SnapshotFile

logger = logging.getLogger(__name__)
