"""WorkerChecks: the suite; each check runs on a fresh engine with a fresh worker."""

from __future__ import annotations

from typing import Any

import pytest

from iii_skill.testing.workers.hooks import (
    BACK_SECONDS,
    NOT_GIVEN,
    ONE,
    TWO,
    WorkerHooks,
    last_events,
    numbered,
    say,
)
from iii_skill.testing.workers.load import Load, at_once, ended, succeeds
from iii_skill.testing.workers.sameness import brief, renamed, same


class WorkerChecks(WorkerHooks):
    """Subclass it as `class TestShop(WorkerChecks)`; give `worker`, `act` and `look`.

    `act` raises when the worker refuses or fails (`reply.expect(200)` does, `engine.call` does); when it
    returns, the work is taken to be done. Checks that need a hook which is not given are skipped.
    """

    def test_work_is_done(self, iii_engine: Any, iii_worker: Any) -> None:
        """A piece of work that is answered has changed something."""
        self.start(iii_worker)
        before = self.look(iii_engine, ONE)
        after = self.look_after(iii_engine, ONE, 1)
        say(
            before != after,
            f"`act` was answered and `look` shows {brief(after)} as before. Does the worker read the "
            "`errors` that state::update answers?",
        )

    def test_work_at_once(self, iii_engine: Any, iii_worker: Any) -> None:
        """What runs at once leaves what the same leaves one after another."""
        self.start(iii_worker)
        if iii_engine.takes_faults:
            iii_engine.faults.delay("state::*", 0.02, probability=0.5, seed=1)
        done = at_once(lambda: self.act(iii_engine, ONE), self.at_once)
        if iii_engine.takes_faults:
            iii_engine.faults.clear()
        found = self.settled_look(iii_engine, ONE)
        say(done > 0, f"Of {self.at_once} pieces of work at once none was done.")
        wanted = self.look_after(iii_engine, TWO, done)
        say(
            same(found, ONE, wanted, TWO),
            f"{done} at once leave {brief(found)}, one after another {brief(wanted)}. Is a value read, "
            "changed and written back? One state::update, or state::compare-and-set until it swapped.",
        )

    def test_a_failing_store_is_no_success(self, iii_engine: Any, iii_worker: Any) -> None:
        """Each call of state in turn fails: the work is done as ever, or refused and nothing is broken."""
        self.start(iii_worker)
        self.strike(iii_engine, "fail", "failed")

    def test_a_lost_answer_is_not_done_twice(self, iii_engine: Any, iii_worker: Any) -> None:
        """The answer of each call of state in turn is lost: the work is done once at most."""
        self.start(iii_worker)
        self.strike(iii_engine, "lose_reply", "was made and its answer lost")

    def test_a_store_that_is_away_is_an_error(self, iii_engine: Any, iii_worker: Any) -> None:
        """While every call of state fails the worker answers in time, with an error; then it goes on."""
        self.start(iii_worker)
        self.look_after(iii_engine, ONE, 1)
        fault = iii_engine.faults.fail("state::*", probability=1.0)
        done = ended(lambda: self.act(iii_engine, ONE), self.patience)
        hits = fault.hits
        fault.stop()
        if not hits:
            pytest.skip("this work calls no function of state")
        say(
            done is not None,
            f"While the store fails the worker does not answer within {self.patience:g} s; it made {hits} "
            "calls. End retries after a while.",
        )
        say(not done, "The store failed every call, and the worker answered that the work was done.")
        found = self.look_after(iii_engine, ONE, 1)
        wanted = [self.look_after(iii_engine, TWO, 2), self.look_after(iii_engine, TWO, 1)]
        say(
            any(same(found, ONE, one, TWO) for one in wanted),
            f"After a time without a store, `look` shows {brief(found)}; {brief(wanted[0])} was to be.",
        )

    def test_a_request_that_comes_again(self, iii_engine: Any, iii_worker: Any) -> None:
        """One request twice, eight times at once, and again after its answer was lost: done once each."""
        self.start(iii_worker)
        self.repeat(iii_engine, ONE, "one-1")
        self.repeat(iii_engine, ONE, "one-1")
        found = self.settled_look(iii_engine, ONE)
        self.repeat(iii_engine, TWO, "two-1")
        wanted = self.settled_look(iii_engine, TWO)
        say(
            same(found, ONE, wanted, TWO),
            f"A request that came twice leaves {brief(found)}, once {brief(wanted)}. Keep the ids of "
            "requests in the value that they change, in the same state::update.",
        )
        delay = iii_engine.faults.delay("state::*", 0.02, probability=0.5, seed=2)
        at_once(lambda: self.repeat(iii_engine, ONE, "one-2"), 8)
        delay.stop()
        succeeds(lambda: self.repeat(iii_engine, ONE, "one-2"))
        found = self.settled_look(iii_engine, ONE)
        before = self.calls_of_state(iii_engine)
        self.repeat(iii_engine, TWO, "two-2")
        calls = self.calls_of_state(iii_engine)[len(before) :]
        wanted = self.settled_look(iii_engine, TWO)
        say(
            same(found, ONE, wanted, TWO),
            f"A request that came 8 times at once leaves {brief(found)}, once {brief(wanted)}. Is its id "
            "looked up first and written later? Both belong into one state::update.",
        )
        for call, skip in numbered(calls):
            fault = iii_engine.faults.lose_reply(call.function_id, skip=skip)
            request = f"{call.function_id}-{skip}"
            if not succeeds(lambda: self.repeat(iii_engine, ONE, f"one-{request}")):  # noqa: B023 - called at once
                fault.stop()
                self.repeat(iii_engine, ONE, f"one-{request}")
            fault.stop()
            found = self.settled_look(iii_engine, ONE)
            self.repeat(iii_engine, TWO, f"two-{request}")
            wanted = self.settled_look(iii_engine, TWO)
            say(
                same(found, ONE, wanted, TWO),
                f"A request that came again after the answer of {call.function_id} was lost leaves "
                f"{brief(found)}, once {brief(wanted)}.",
            )

    def test_an_event_that_comes_again(self, iii_engine: Any, iii_worker: Any) -> None:
        """An event of state that is delivered twice, also to a worker started again, changes nothing more."""
        self.start(iii_worker)
        self.look_after(iii_engine, ONE, 2)
        for again in ("", " after the worker was started again"):
            events = last_events(iii_engine)
            if not events:
                pytest.skip("this work fires no event that the worker handles")
            if again:
                self.start_again(iii_engine, iii_worker)
            before = self.everything(iii_engine)
            for event in events:
                iii_engine.call(event.function_id, event.payload)
                self.settle(iii_engine)
            after = self.everything(iii_engine)
            say(
                before == after,
                f"{event.function_id} was called with an event twice{again}: {brief(before)} became "
                f"{brief(after)}. Derive what it writes from the event itself, under a key of the event.",
            )
            self.look_after(iii_engine, ONE, 1)

    def test_work_comes_to_an_end(self, iii_engine: Any, iii_worker: Any) -> None:
        """Nothing goes on for ever after a piece of work."""
        self.start(iii_worker)
        self.act(iii_engine, ONE)
        self.settle(iii_engine)

    def test_the_host_starts_again_under_load(self, iii_engine: Any, iii_worker: Any) -> None:
        """Work goes on after a restart of the host; what was answered is there, nothing is done twice."""
        self.start(iii_worker)
        with Load(lambda: self.act(iii_engine, ONE)) as load:
            load.wait(8, self.patience)
            load.go_on()
            iii_engine.faults.restart()
            self.expect_running(iii_engine, "when the host was started again")
            before = load.done
            load.go_on()
            back = load.wait(before + 4, BACK_SECONDS)
        say(back, f"{BACK_SECONDS:g} s after a restart of the host the worker does nothing.")
        found = self.settled_look(iii_engine, ONE)
        self.expect_between(iii_engine, found, load.done, load.done + load.refused, "a restart of the host")

    def test_the_worker_starts_again(self, iii_engine: Any, iii_worker: Any) -> None:
        """A worker that was killed and started again goes on where it was."""
        self.start(iii_worker)
        self.look_after(iii_engine, ONE, 2)
        wanted = self.look_after(iii_engine, TWO, 3)
        self.start_again(iii_engine, iii_worker)
        found = self.look_after(iii_engine, ONE, 1)
        say(
            same(found, ONE, wanted, TWO),
            f"After a crash of the worker 3 pieces of work leave {brief(found)}, else {brief(wanted)}. What "
            "it has to know belongs into state, not into its memory.",
        )

    def test_missing_keys(self, iii_engine: Any, iii_worker: Any) -> None:
        """Reading what is not there is no failure, makes nothing, and is told apart from what is there."""
        self.start(iii_worker)
        self.act(iii_engine, TWO)
        self.settle(iii_engine)
        before = self.everything(iii_engine)
        missing = self.read(iii_engine, ONE)
        again = self.read(iii_engine, ONE)
        self.settle(iii_engine)
        say(self.everything(iii_engine) == before, "Reading a key that is missing stored something.")
        say(missing == again, f"A missing key is read as {brief(missing)}, then as {brief(again)}.")
        there = self.read(iii_engine, TWO)
        say(not same(missing, ONE, there, TWO), f"What is there is read as what is missing: {brief(there)}.")

    def test_an_empty_value_is_not_missing(self, iii_engine: Any, iii_worker: Any) -> None:
        """A stored value that is falsy is there."""
        if self.empty is NOT_GIVEN:
            pytest.skip("`empty` is not given")
        self.start(iii_worker)
        iii_engine.state.set(*self.place(ONE), self.empty)
        self.settle(iii_engine)
        found, missing = self.read(iii_engine, ONE), self.read(iii_engine, TWO)
        say(
            not same(found, ONE, missing, TWO),
            f"The stored value {brief(self.empty)} is read as if it were missing ({brief(missing)}). Ask "
            "whether the value is null, not whether it is true.",
        )

    def test_odd_keys(self, iii_engine: Any, iii_worker: Any) -> None:
        """Any text is a key, and no two are the same."""
        self.start(iii_worker)
        wanted = self.look_after(iii_engine, ONE, 1)
        taken = [key for key in self.odd_keys if key not in self.refused_keys]
        for key in taken:
            try:
                self.act(iii_engine, key)
            except Exception as error:
                raise AssertionError(f"The key {key!r:.80} is refused: {error}") from error
        self.settle(iii_engine)
        for key in taken:
            found = self.look(iii_engine, key)
            say(
                same(found, key, wanted, ONE),
                f"One piece of work leaves {brief(found)} for the key {key!r:.80}, and {brief(wanted)} for "
                "an ordinary one. Is the key changed, cut, or joined with something else?",
            )
        before = self.everything(iii_engine)
        for key in self.refused_keys:
            say(not succeeds(lambda: self.act(iii_engine, key)), f"The key {key!r:.80} is not refused.")  # noqa: B023
        self.settle(iii_engine)
        say(self.everything(iii_engine) == before, "A key that was refused changed something.")

    def test_somebody_else_writes(self, iii_engine: Any, iii_worker: Any) -> None:
        """What another writer put into state is what the worker goes on from."""
        self.place(ONE)
        self.start(iii_worker)
        self.look_after(iii_engine, ONE, 1)
        self.look_after(iii_engine, TWO, 3)
        value = iii_engine.state.get(*self.place(TWO))
        iii_engine.state.set(*self.place(ONE), renamed(value, TWO, ONE))
        found = self.look_after(iii_engine, ONE, 1)
        wanted = self.look_after(iii_engine, TWO, 1)
        say(
            same(found, ONE, wanted, TWO),
            f"After another writer's change the work leaves {brief(found)}, not {brief(wanted)}: the worker "
            "goes on from what it remembers.",
        )

    def test_nothing_is_gone_in_between(self, iii_engine: Any, iii_worker: Any) -> None:
        """A key that is there before and after a piece of work is there all the time."""
        self.start(iii_worker)
        self.look_after(iii_engine, ONE, 1)
        seen = len(iii_engine.events.all)
        self.look_after(iii_engine, ONE, 1)
        gone = [event for event in iii_engine.events.all[seen:] if event.type == "state:deleted"]
        left = iii_engine.state.snapshot()
        for event in gone:
            say(
                event.key not in left.get(event.scope, {}),
                f"{event.scope} / {event.key} was deleted and written again: whoever reads in between finds "
                "nothing, and a crash leaves nothing. Overwrite it.",
            )
