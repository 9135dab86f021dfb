"""Changes of membership under load, transfers of leadership, and what is done about lost disks.

Operators have wishes; a wish is tried at whoever leads, again and again, until it is granted or has
become pointless.  Their order is that of docs/internals/cluster.md: a node joins as observer, votes
when it has caught up, and a voter that lost its log and asks to be let in again is made an observer
first (`paas.raft.returning`).

    disk lost, or damaged ──> starts empty, mute ──> observer ──> let in ──> caught up ──> voter

At most one disk is lost at a time: what a majority has lost nobody can give back.  A member that
was removed is not told; for a while it goes on, with its old idea of who votes.
"""

from __future__ import annotations

from collections.abc import Callable

from paas.base.errors import PlatformError
from paas.raft.syncobj import Replica
from paas.sim.consensus.arena import Arena
from paas.sim.consensus.disks import DiskFaults
from paas.sim.consensus.members import Member

TRY_S = 0.25
CAUGHT_UP_ENTRIES = 20
MEMBERS_MAX = 6
VOTERS_MAX = 5
VOTERS_MIN = 2

Wish = Callable[[Member], bool]
"""Tried at the leader; true when it is granted or pointless."""


class Operators:
    """See the module's text."""

    def __init__(self, arena: Arena, disks: DiskFaults) -> None:
        self._arena = arena
        self._disks = disks
        self._wishes: list[Wish] = []
        self._newest = 0
        self._disk_lost = False
        self._stopping = False

    def classes(self) -> dict[str, Callable[[], bool]]:
        return {
            "add-observer": self._add_observer,
            "promote": self._promote,
            "demote-voter": self._demote,
            "remove-member": self._remove,
            "replace-voter": self._replace,
            "transfer": self._transfer,
            "disk-replaced": self._disk_replaced,
            "bit-flip": self._bit_flip,
        }

    def begin(self) -> None:
        self._arena.after(TRY_S, self._try)

    def end(self) -> None:
        """No new wishes; those that are under way are carried out."""
        self._stopping = True

    @property
    def content(self) -> bool:
        return not self._wishes

    def _try(self) -> None:
        leader = self._arena.leader()
        if leader is not None and leader.paused_s <= self._arena.now_s and not leader.busy_disk:
            self._let_in(leader)
            self._wishes = [wish for wish in self._wishes if not wish(leader)]
        self._arena.after(TRY_S, self._try)

    def _leader(self) -> Member | None:
        return None if self._stopping else self._arena.leader()

    def _change(self, leader: Member, voters: set[str], observers: set[str]) -> bool:
        """Ask the leader for another configuration; true when it took it."""
        arena = self._arena
        try:
            leader.replica.change_configuration(sorted(voters), sorted(observers))
        except PlatformError as error:
            arena.count(f"change-refused-{error.code}")
            return False
        arena.count("configuration-changed")
        arena.record(f"{leader.name} changes members: {sorted(voters)}, {sorted(observers)}")
        arena.wake(leader, 0.0005)
        return True

    # -- members -----------------------------------------------------------------------------------

    def _new_member(self, leader: Member) -> Member | None:
        arena = self._arena
        if sum(not m.gone for m in arena.members.values()) >= MEMBERS_MAX:
            return None
        self._newest += 1
        settings = leader.settings
        rate = 1 + (leader.clock.rate - 1) * arena.random.random()
        member = arena.add(f"n{self._newest}", rate=rate, settings=settings, voters=(), join=True)
        arena.boot(member, empty=True)
        return member

    def _add_observer(self) -> bool:
        leader = self._leader()
        member = None if leader is None else self._new_member(leader)
        if member is None:
            return False
        self._wishes.append(self._observing(member))
        return True

    def _observing(self, member: Member) -> Wish:
        """It becomes an observer."""

        def wish(leader: Member) -> bool:
            now = leader.replica.configuration
            if member.gone:
                return True
            if member.name in now.members:
                return now.committed
            voters, observers = set(now.voters), set(now.observers)
            self._change(leader, voters, observers | {member.name})
            return False

        return wish

    def _voting(self, member: Member) -> Wish:
        """It becomes a voter, once it has caught up."""

        def wish(leader: Member) -> bool:
            now = leader.replica.configuration
            if member.gone:
                return True
            if member.name in now.voters or len(now.voters) >= VOTERS_MAX:
                return now.committed
            if member.name not in now.observers:
                return False
            follower = leader.replica.followers().get(member.name)
            if follower is None or follower.returned or not follower.match_index:
                return False
            if leader.replica.last_index - follower.match_index <= CAUGHT_UP_ENTRIES:
                self._change(leader, {*now.voters, member.name}, set(now.observers) - {member.name})
            return False

        return wish

    def _promote(self) -> bool:
        leader = self._leader()
        if leader is None or not leader.replica.configuration.observers:
            return False
        name = self._arena.random.choice(leader.replica.configuration.observers)
        if len(leader.replica.configuration.voters) >= VOTERS_MAX:
            return False
        self._wishes.append(self._voting(self._arena.members[name]))
        return True

    def _a_voter(self, replica: Replica) -> str | None:
        """One that may go: not the leader, and enough are left.

        A lost disk is not left.  Two voters of which one lost its log could not even elect a leader
        that takes it back.
        """
        others = [name for name in replica.voters if name != replica.node]
        left = len(replica.voters) - 1 - self._disk_lost
        enough = left >= VOTERS_MIN
        return self._arena.random.choice(others) if others and enough else None

    def _demote(self) -> bool:
        """A voter becomes an observer."""
        leader = self._leader()
        name = None if leader is None else self._a_voter(leader.replica)
        if leader is None or name is None:
            return False
        now = leader.replica.configuration
        return self._change(leader, set(now.voters) - {name}, {*now.observers, name})

    def _remove(self) -> bool:
        """A member is one no longer, and is not told."""
        leader = self._leader()
        if leader is None or self._disk_lost:
            return False
        now = leader.replica.configuration
        name = self._a_voter(leader.replica)
        if now.observers and self._arena.random.random() < 0.5:
            name = self._arena.random.choice(now.observers)
        if name is None:
            return False
        self._wishes.append(self._forgotten(self._arena.members[name], self._retire))
        return True

    def _forgotten(self, member: Member, then: Callable[[Member], None]) -> Wish:
        """No configuration names it any more, and that is committed; then `then`."""

        def wish(leader: Member) -> bool:
            now = leader.replica.configuration
            if member is leader:
                if now.voters == (member.name,):
                    return True  # nobody else could lead
                self._hand_over(leader)
                return False
            if member.name not in now.members:
                if now.committed:
                    then(member)
                return now.committed
            voters, observers = set(now.voters) - {member.name}, set(now.observers) - {member.name}
            if voters:
                self._change(leader, voters, observers)
            return False

        return wish

    def _retire(self, member: Member) -> None:
        """It goes on for a while: a removed member must not disturb the others."""
        arena = self._arena
        member.gone = True
        arena.after(arena.random.random() * 20, lambda: arena.kill(member, power=False))

    def _replace(self) -> bool:
        """A new node takes the place of a voter."""
        leader = self._leader()
        name = None if leader is None else self._a_voter(leader.replica)
        if leader is None or name is None or self._disk_lost:
            return False
        member = self._new_member(leader)
        if member is None:
            return False
        old, observing, voting = self._arena.members[name], self._observing(member), None
        voting = self._voting(member)

        def wish(leader: Member) -> bool:
            if not observing(leader) or not voting(leader):
                return False
            self._wishes_later(self._forgotten(old, self._retire))
            return True

        self._wishes.append(wish)
        return True

    def _wishes_later(self, wish: Wish) -> None:
        self._arena.after(0.0, lambda: self._wishes.append(wish))

    # -- leadership --------------------------------------------------------------------------------

    def _hand_over(self, leader: Member) -> bool:
        others = [n for n in leader.replica.voters if n != leader.name and self._arena.alive(n)]
        if not others:
            return False
        asked = leader.replica.transfer(self._arena.random.choice(others))
        if asked:
            self._arena.count("transfer-asked")
            self._arena.wake(leader, 0.0005)
        return asked

    def _transfer(self) -> bool:
        leader = self._leader()
        if leader is None or leader.busy_disk or leader.paused_s > self._arena.now_s:
            return False
        return self._hand_over(leader)

    # -- disks -------------------------------------------------------------------------------------

    def _let_in(self, leader: Member) -> None:
        """A voter that came back without its log votes no longer, until it has it again."""
        now = leader.replica.configuration
        for name, follower in leader.replica.followers().items():
            if follower.returned and follower.voter:
                voters, observers = set(now.voters) - {name}, {*now.observers, name}
                if self._change(leader, voters, observers):
                    self._arena.count("returned-voter-demoted")
                    self._wishes.append(self._voting(self._arena.members[name]))
                return

    def _unlucky(self) -> Member | None:
        """A member whose disk may get lost: the others are a majority by themselves."""
        leader = self._leader()
        if leader is None or self._disk_lost or not self.content:
            return None
        now, members = leader.replica.configuration, self._arena.members
        names = [n for n in now.members if n != leader.name]
        if not now.committed or len(now.voters) < 3 or not names:
            return None
        if any(m.replica.term > leader.replica.term for m in members.values() if not m.gone):
            return None  # it leads no longer, and does not know; there may be other voters by now
        if not all(members[name].replica.returning.settled for name in now.voters):
            return None
        return members[self._arena.random.choice(names)]

    def _disk_replaced(self) -> bool:
        """Its disk is lost; it starts again at once under its name, with an empty one."""
        member = self._unlucky()
        if member is None:
            return False
        self._arena.kill(member, power=False)
        member.wipe()
        self.lost(member)
        return True

    def _bit_flip(self) -> bool:
        """A bit of a disk at rest flips; who notices at the start puts the log aside."""
        member = self._unlucky()
        if member is None:
            return False
        if member.alive:
            self._arena.retire_cleanly(member)
        if not self._disks.flip(member):
            return False
        self._disk_lost = True  # perhaps: known when it starts

        def started() -> None:
            self._disk_lost = False
            if member.replica.returning.mute:
                self._arena.count("bit-flip-detected")
                self.lost(member)

        member.on_start = started
        return True

    def lost(self, member: Member) -> None:
        """Until it votes again no other disk may get lost."""
        self._arena.record(f"{member.name} lost its log")
        self._disk_lost = True
        observing, voting = self._observing(member), self._voting(member)

        def wish(leader: Member) -> bool:
            if not member.gone and not (member.alive and member.replica.returning.settled):
                return False
            if not observing(leader) or not voting(leader):
                return False
            self._disk_lost = False
            self._arena.count("disk-restored")
            return True

        self._wishes_later(wish)
