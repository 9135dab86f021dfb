"""What must hold in every simulated cluster, by name; each evaluation is counted.

After every event
  one-leader           one leader in a term
  log-matching         an index and a term name one entry, in every log
  committed-fixed      at an applied index always the same entry, on every replica, in every life
  outcome-equal        the same entry has the same result and events everywhere
  applied-once         no command is applied twice, however often it is proposed
  primary-decides      a component is placed by the primary of its virtual node, in its epoch
  create-once          a request to create, however often repeated, created once
  unique-names         a name belongs to one component that has not ended
  join-position        position and count of a joining are those of the order of the log
  tokens-grow          a fencing token is larger than all before it in its group
  ring-epochs          the epoch of a virtual node grows with each change of its primary
  capacity             no node is given more than it has
  ended-once           an incarnation ends once
  restart-intensity    no more restarts within the period than the policy allows
  lost-is-empty        when a node is declared lost, nothing runs on it
  lost-is-left         … and its components are placed elsewhere, wait for a node, or have ended
  runs-once            a component runs on one node at most, one incarnation at a time
  incarnations-grow    an older incarnation never starts after a newer one
  within-capacity      what really runs on a node fits into it
  monitor-once         a monitor fires once, and not before the end that it is about
  one-outcome          a call, cast or request has one outcome
  pair-order           from one component to another, messages arrive in order, each at most once
  acknowledged         what was acknowledged is in the state
  letter-known         an accepted message is in the log, once; nothing else is delivered
  letter-order         of one sender, messages are first delivered in their order
  letter-done          no message is acknowledged that no member has done
  no-bug               no part of the platform fails in a way it did not foresee
At the end, when all has been well for a while
  leader-soon          there is a leader
  replicas-equal       every replica has the same state, and it is the one that the log tells
  converged            what should run, runs; and nothing else
  monitor-fired        who monitored something that ended has been told
  answered             nobody waits for an answer that is overdue
  letter-end           every accepted message was done, or is a dead letter with a reason
  linearizable         what components saw of joins and claims has an explanation (history.py)
"""

from __future__ import annotations

from collections import Counter

NAMES = (
    *("one-leader", "log-matching", "committed-fixed", "outcome-equal", "applied-once"),
    *("primary-decides", "create-once"),
    *("unique-names", "join-position", "tokens-grow", "ring-epochs", "capacity", "ended-once"),
    *("restart-intensity", "lost-is-empty", "lost-is-left", "runs-once", "incarnations-grow"),
    *("letter-known", "letter-order", "letter-done", "letter-end"),
    *("within-capacity", "monitor-once", "one-outcome", "pair-order", "acknowledged", "no-bug"),
    *("leader-soon", "replicas-equal", "converged", "monitor-fired", "answered", "linearizable"),
)


class Broken(AssertionError):
    """An invariant does not hold."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name}: {text}")
        self.name = name


class Invariants:
    """Counts, and complains."""

    def __init__(self) -> None:
        self.evaluated: Counter[str] = Counter(dict.fromkeys(NAMES, 0))

    def require(self, name: str, holds: object, text: str) -> None:
        """Raise Broken unless it holds.  For what is cheap to tell."""
        self.evaluated[name] += 1
        if not holds:
            raise Broken(name, text)

    def seen(self, name: str) -> None:
        """It was evaluated, and held."""
        self.evaluated[name] += 1
