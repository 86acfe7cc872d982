"""Whatever people, models, tools, clocks, hosts and databases do, in whatever order: the promises hold.

Each example is a play on one event loop, so that what hypothesis finds can be played again. A rule sets
something going and lets the loop turn a few times; what is still under way then meets what comes next.
"""

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from actors.agent.orders import Edit, Pause, Resolve, Resume, Withdraw
from actors.agent.sessions import NewSession, Receipt, Submit, TurnResult
from actors.core.errors import (
    ApprovalNotFound,
    ApprovalNotPending,
    CursorExpired,
    GreenroomError,
    IdempotencyKeyReused,
    InboxFull,
    MessageNotFound,
    MessageNotWaiting,
    ModelUnavailable,
    SessionBusy,
    SessionNotFound,
)
from actors.core.events import Event, MessageAccepted, MessageEdited, Origin, Spent, TurnCancelled
from actors.llm.base import Answer, ReasoningText, Resending, Retrying, TextDelta
from actors.testing import calls, says
from actors.testing.history import History
from actors.testing.llm import Script

USER = "user_1"
HOSTS = 3
DAY_S = 86_400.0

# What is drawn ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Says:
    """What a model does with one call."""

    kind: str
    text: str
    price: Decimal | None
    tools: tuple[Any, ...]

    def script(self) -> Script:
        match self.kind:
            case "tools":
                return calls(*self.tools, text=self.text)
            case "slow":
                return [TextDelta("Well, "), asyncio.Event(), *says(self.text, cost_usd=self.price)]
            case "again":
                failures = [Retrying("rate_limited", free=True), Retrying("timeout")]
                again = [item for failure in failures for item in (failure, Resending())]
                return [*again, *says(self.text, cost_usd=self.price)]
            case "silent":
                return [ReasoningText("hm"), *says(cost_usd=self.price)]
            case "error":
                return [ModelUnavailable()]
            case "broken":
                return [TextDelta(self.text), ModelUnavailable()]
            case "length":
                *deltas, answer = says(self.text, cost_usd=self.price)
                assert isinstance(answer, Answer)
                return [*deltas, replace(answer, finish_reason="length")]
            case _:
                return says(self.text, cost_usd=self.price)


# `run_python` needs a person, `slow` waits at a gate, and each `#` is a number of its own.
TOOL = st.sampled_from(
    [
        ("run_shell", {"command": "quick #"}),
        ("run_shell", {"command": "slow #"}),
        ("run_python", {"code": "guarded #"}),
        ("run_python", {"code": "slow guarded #"}),
        ("run_shell", {"nonsense": 1}),
        ("no_such_tool", {}),
    ]
)
KIND = st.sampled_from(["text", "tools", "tools", "tools", "slow", "again", "silent", "error", "broken", "length"])
TEXT = st.sampled_from(["Yes.", "né 漢字 🙂", " ", ""])
PRICE = st.sampled_from([Decimal(0), Decimal("0.0000011"), Decimal("0.25"), None])
TOOLS = st.lists(TOOL, min_size=1, max_size=3).map(tuple)
SAID = st.lists(st.builds(Says, KIND, TEXT, PRICE, TOOLS), min_size=1, max_size=4)
SESSION = st.sampled_from(["sess_a", "sess_a", "sess_a", "sess_b"])
ON_BUSY = st.sampled_from(["enqueue", "enqueue", "interrupt", "steer", "steer", "reject"])
ORDER = st.sampled_from(["edit", "withdraw", "cancel", "pause", "pause", "resume", "approve", "approve", "deny"])
EVENT = st.sampled_from(["move", "overtake", "kill", "drain", "leave", "before", "after"])
GO = st.none() | st.none() | st.integers(0, 30)
"""How far things get before the next one happens; None is as far as they can."""
WHICH = st.integers(0, 7)
"""Chooses among what there is, the newest first."""


class Play(RuleBasedStateMachine):
    """Sessions on a few hosts over one journal."""

    make_stage: Callable[[], Any]

    def __init__(self) -> None:
        super().__init__()
        self.stage = self.make_stage()
        self.hosts: list[Any] = []
        self.home: dict[str, int] = {}
        """Which host serves a session, as those believe who ask for it."""
        self.sent: list[Submit] = []
        self.cancelled: set[str] = set()
        self.limits: dict[str, Any] = {}
        self.numbers = itertools.count(1)

    @initialize(on_expiry=st.sampled_from(["approve", "deny"]), steps=st.integers(1, 4))
    def open(self, on_expiry: str, steps: int) -> None:
        self.limits = {
            "approval_on_expiry": on_expiry,
            "approval_expires_s": DAY_S,
            "turn_max_steps": steps,
            "inbox_max": 5,
            "sessions_per_actor": 3,
        }
        self.hosts = [self.stage.host(**self.limits) for _ in range(HOSTS)]

    @invariant()
    def look(self) -> None:
        self.stage.look()

    def teardown(self) -> None:
        try:
            if self.hosts:
                self.stage.settle(self._at)
                self.stage.check_rest()
                self._check_cancels()
        finally:
            self.stage.close()

    # People -----------------------------------------------------------------------------------------------

    @rule(session=SESSION, on_busy=ON_BUSY, wait=st.booleans(), said=SAID, go=GO)
    def say(self, session: str, on_busy: Any, wait: bool, said: list[Says], go: int | None) -> None:
        if session in self.stage.deleted:
            return
        self.stage.scripts.extend(one.script() for one in said)
        number = next(self.numbers)
        command = Submit(
            session,
            USER,
            f"msg_u{number}",
            f"turn_{number}",
            f"message {number}",
            new=NewSession("scripted"),
            on_busy=on_busy,
            fingerprint=f"of request {number}",
        )
        self.sent.append(command)
        self._settled_at(session, 0)
        self._send(command, wait, self._at(session))
        self.stage.go(go)

    # The same under other names: most of what happens is that somebody says something.
    say_more = rule(session=SESSION, on_busy=ON_BUSY, wait=st.booleans(), said=SAID, go=GO)(
        say.hypothesis_stateful_rule.function
    )
    say_on = rule(session=SESSION, on_busy=ON_BUSY, wait=st.booleans(), said=SAID, go=GO)(
        say.hypothesis_stateful_rule.function
    )

    def _send(self, command: Submit, wait: bool, host: Any, **members: Any) -> None:
        def accepted(answer: Receipt | TurnResult) -> None:
            history = self._history(command)
            if isinstance(answer, Receipt):
                seq = history.turns[command.turn_id][0].seq
                assert (answer.turn_id, answer.message_id, answer.seq) == (command.turn_id, command.message_id, seq)
            else:
                assert answer.status == _status(history.ends[command.turn_id])

        asked = host.chat(command, wait_s=60) if wait else host.submit(command)
        self.stage.call(asked, accepted, SessionBusy, InboxFull, host=host, **members)

    @precondition(lambda self: self.sent)
    @rule(which=WHICH, wait=st.booleans(), same=st.booleans(), host=WHICH, go=GO)
    def say_again(self, which: int, wait: bool, same: bool, host: int, go: int | None) -> None:
        command = self._one(self.sent, which)
        history = self.stage.histories.get(command.session_id)
        turn = history.turns.get(command.turn_id) if history else None
        if command.session_id in self.stage.deleted or turn is None or turn[0].seq <= history.trimmed_to:
            return
        at = self._at(command.session_id, host)
        if same:
            self._send(command, wait, at, repeats=True)
        else:
            other = replace(command, fingerprint="of another request")
            self.stage.call(at.submit(other), _never, IdempotencyKeyReused, repeats=True)
        self.stage.go(go)

    @precondition(lambda self: self.sent)
    @rule(what=ORDER, which=WHICH, go=GO)
    def order(self, what: Any, which: int, go: int | None) -> None:
        command = self._one(self.sent, which)
        session = self._one(list(self.home), which)
        match what:
            case "edit":
                self._edit(command)
            case "withdraw":
                self._withdraw(command)
            case "cancel":
                self._cancel(command)
            case "pause" | "resume":
                self._control(session, Pause() if what == "pause" else Resume(), None)
            case _:
                self._resolve(session, which, what)
        self.stage.go(go)

    def _edit(self, command: Submit) -> None:
        content = f"edited {next(self.numbers)}"

        def changed(_: Any) -> None:
            events = self._history(command).turns[command.turn_id]
            assert content in [e.body.content for e in events if isinstance(e.body, MessageAccepted | MessageEdited)]

        order = Edit(command.message_id, content)
        self._control(command.session_id, order, changed, MessageNotFound, MessageNotWaiting)

    def _withdraw(self, command: Submit) -> None:
        self.cancelled.add(command.turn_id)

        def gone(_: Any) -> None:
            assert self._history(command).was_withdrawn(command.turn_id)

        order = Withdraw(command.message_id)
        self._control(command.session_id, order, gone, MessageNotFound, MessageNotWaiting)

    def _cancel(self, command: Submit) -> None:
        self.cancelled.add(command.turn_id)

        def ended(answer: TurnResult | None) -> None:
            history = self._history(command)
            assert command.turn_id in history.ends or command.turn_id not in history.turns
            assert answer is None or answer.status == _status(history.ends[command.turn_id])

        host = self._at(command.session_id)
        asked = host.cancel(command.session_id, USER, command.turn_id)
        self.stage.call(asked, ended, SessionNotFound, host=host)

    def _resolve(self, session: str, which: int, decision: Any) -> None:
        history = self.stage.histories.get(session)
        events = history.events if history is not None else []
        asked = [e.body.approval_id for e in events if e.body.type == "approval.requested"]
        if not asked:
            return
        approval_id = self._one(asked, which)

        def decided(_: Any) -> None:
            assert history.decisions[approval_id].decision == decision

        order = Resolve(approval_id, decision, "because", USER)
        self._control(session, order, decided, ApprovalNotFound, ApprovalNotPending)

    def _control(self, session: str, order: Any, check: Any, *allowed: type[GreenroomError]) -> None:
        self.stage.call(self._at(session).control(session, USER, order), check, SessionNotFound, *allowed)

    # Machines and time ------------------------------------------------------------------------------------

    @rule(go=GO)
    def open_gates(self, go: int | None) -> None:
        self.stage.open_gates()
        self.stage.go(go)

    @precondition(lambda self: self.home)
    @rule(what=EVENT, which=WHICH, later=WHICH, go=GO)
    def trouble(self, what: str, which: int, later: int, go: int | None) -> None:
        number, session = which % HOSTS, self._one(list(self.home), later)
        host = self.hosts[number]
        match what:
            case "move" | "overtake":  # another host activates the session, while this one lives and knows nothing
                self.home[session] = number if what == "move" else self.home[session]
                self.stage.call(host.wake(session), None, SessionNotFound)
            case "kill" | "drain" | "leave":
                if what == "kill":
                    self.stage.kill(host)
                else:
                    self.stage.call(host.drain(grace_s=60 if what == "drain" else 0))
                self.hosts[number] = self.stage.host(**self.limits)
            case _:
                host._journal.faults.extend(["none"] * (later % 3) + [what])
        self.stage.go(go)

    @precondition(lambda self: self.home)
    @rule(seconds=st.sampled_from([0.0, 1000.0, DAY_S]), what=st.sampled_from(["sweep", "tend", "nothing"]), go=GO)
    def let_time_pass(self, seconds: float, what: str, go: int | None) -> None:
        self.stage.world.clock.advance(seconds)
        if what == "sweep":
            for host in self.hosts:
                self.stage.call(host.sweep())
        elif what == "tend":
            for session in self.stage.to_wake():
                self.stage.call(self._at(session).wake(session), None, SessionNotFound)
        self.stage.go(go)

    # Pasts ------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.stage.living())
    @rule(days=st.sampled_from([0.0, 0.5, 2.0]))
    def trim(self, days: float) -> None:
        self.stage.look(everywhere=True)
        if any(call.repeats for call in self.stage.calls):
            return  # what is sent again is younger than what is trimmed
        before = self.stage.world.clock.now() - timedelta(days=days)
        self.stage.now(self.stage.world.journal.trim(before, limit=10))
        for history in self.stage.living():
            trimmed_to = history.trimmed_to
            history.check_left(self._events(history.session_id))
            assert all(e.created_at < before for e in history.events[trimmed_to : history.trimmed_to])

    @precondition(lambda self: self.stage.living())
    @rule(which=WHICH, at=st.integers(0, 40))
    def fork(self, which: int, at: int) -> None:
        self.stage.look(everywhere=True)
        history = self._one(self.stage.living(), which)
        book = self.stage.world.book
        row = self.stage.now(book.get(history.session_id, USER))
        seq, copy = 1 + at % row.last_seq, f"fork_{next(self.numbers)}"
        try:
            made = self.stage.now(book.fork(row, copy, from_seq=seq, new_id=self.stage.world.new_id))
        except CursorExpired:
            assert seq < history.trimmed_to
            return
        assert seq >= history.trimmed_to
        assert (made[1], made[0].spent, made[0].status) == (True, Spent(), "idle")
        self._settled_at(copy, which % HOSTS)
        self.stage.look(everywhere=True)
        state = self.stage.histories[copy].state
        assert (state.turns, state.created.forked_from) == ({}, Origin(history.session_id, seq))

    @precondition(lambda self: self.stage.living())
    @rule(which=WHICH, after=st.integers(0, 60), host=WHICH, go=GO)
    def follow(self, which: int, after: int, host: int, go: int | None) -> None:
        history = self._one(self.stage.living(), which)

        def shown(batch: Any) -> None:
            numbers = [event.seq for event in batch.events]
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) if numbers else True
            for event in batch.events:
                known = history.events[event.seq - 1]
                assert event == known or event.body.type == "history.trimmed", "shown, and not in the journal"

        at, session = self._at(history.session_id, host), history.session_id
        self.stage.call(at.follow(session, USER, after=after, seen={}, wait_s=0), shown, CursorExpired)
        self.stage.go(go)

    @precondition(lambda self: len(self.stage.living()) > 1)
    @rule(which=WHICH, go=GO)
    def delete(self, which: int, go: int | None) -> None:
        self.stage.look(everywhere=True)
        session = self._one(self.stage.living(), which).session_id
        self.stage.now(self.stage.world.book.delete(session, USER))
        self.stage.deleted.add(session)
        for host in self.hosts:
            self.stage.call(host.forget(session))
        self.stage.go(go)

    # What there is ----------------------------------------------------------------------------------------

    def _at(self, session: str, other: int = 1) -> Any:
        """The host that serves the session, or, for an even number, one that has nothing to do with it."""
        return self.hosts[self.home[session] if other % 2 else other % HOSTS]

    def _settled_at(self, session: str, host: int) -> None:
        self.home.setdefault(session, host)
        self.stage.sessions.add(session)

    def _one(self, among: list[Any], which: int) -> Any:
        return among[-1 - which % len(among)]

    def _history(self, command: Submit) -> History:
        return self.stage.histories[command.session_id]

    def _events(self, session: str) -> tuple[Event, ...]:
        return self.stage.now(self.stage.world.journal.read(session, after=0, limit=100_000))

    def _check_cancels(self) -> None:
        """Nothing was cancelled that nobody wanted to be: in the sessions where nobody interrupts."""
        interrupted = {command.session_id for command in self.sent if command.on_busy == "interrupt"}
        for history in self.stage.living():
            if history.session_id not in interrupted and not history.is_fork:
                ended = {turn for turn, end in history.ends.items() if isinstance(end.body, TurnCancelled)}
                assert ended <= self.cancelled


def _status(end: Event) -> str:
    return end.body.type.removeprefix("turn.")


def _never(answer: Any) -> None:
    raise AssertionError(f"another request was answered as if it were the same: {answer}")


@pytest.mark.timeout(600)  # hundreds of steps, each through SQLite: minutes on a busy machine
def test_no_play_breaks_the_promises(make_stage: Callable[[], Any]) -> None:
    class Staged(Play):
        pass

    Staged.make_stage = staticmethod(make_stage)
    run_state_machine_as_test(
        Staged,
        settings=settings(
            max_examples=3 * settings().max_examples // 2,
            stateful_step_count=30,
            deadline=None,
            report_multiple_bugs=False,
            # Explaining a failure traces every line: it takes longer than finding it.
            phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        ),
    )
