"""Nothing is lost and the state is a replay, whatever is killed and whenever."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streams.delivery.watchdog import EXIT_STUCK
from tests.fixtures_kafka import TestKafka, broker_or_skip
from tests.kafka import worker
from tests.kafka.trial import Trial, Verdict

NewTrial = Callable[..., Trial]


@pytest.fixture
def new_trial(kafka: TestKafka, tmp_path: Path) -> NewTrial:
    return lambda **options: Trial(kafka.bootstrap, kafka.prefix(), tmp_path, options)


def whole(trial: Trial, *, rejected: int = 0) -> None:
    """The oracle: all offsets ended somewhere, the changelog says what a replay says."""
    verdict = trial.verdict()
    assert verdict == Verdict(
        made=len(trial.made),
        lost=0,
        duplicates=verdict.duplicates,
        rejected=rejected,
        state_equal=True,
        committed=True,
    ), f"{trial.differences()}\n{trial.said()}"


def test_a_worker_killed_in_the_stream_loses_nothing(new_trial: NewTrial) -> None:
    """Hosts lose power; what was read and not committed must be read again, and only once
    count in the state.
    """
    with new_trial(nap_s=0.02, most=20) as trial:
        trial.produce(1500)
        first = trial.start()
        trial.until_outputs(300)
        first.kill()
        trial.start()
        trial.until_committed()

        whole(trial)


@pytest.mark.parametrize("keys", [20, 4000], ids=["few keys", "many keys"])
def test_who_is_behind_reads_partitions_alike_that_have_few_keys(
    new_trial: NewTrial, tmp_path: Path, keys: int
) -> None:
    """Else the few lineages of one are judged for seconds while all others wait. Many are
    better judged close together, partition by partition: each commit packs them once.
    """
    with new_trial(batches=str(tmp_path / "batches")) as trial:
        trial.produce(8000, keys=keys)
        trial.start()
        trial.until_committed()

        whole(trial)
        partitions = [int(line) for line in (tmp_path / "batches").read_text().split()]
        # What came first may be of one, and so is what is left at the end.
        mixed = sum(count > 1 for count in partitions)
        assert (mixed > len(partitions) / 2) == (keys == 20), partitions


def test_a_worker_that_joins_and_leaves_loses_nothing(new_trial: NewTrial) -> None:
    """Every deploy does this, with records in flight on both sides of the rebalance."""
    with new_trial(nap_s=0.02, most=20) as trial:
        trial.produce(1000)
        trial.start()
        trial.until_outputs(100)
        second = trial.start()
        trial.produce(1000)
        trial.until_joined(2)
        trial.until_outputs(1000)
        second.send_signal(signal.SIGTERM)
        assert trial.until_ended(second) == 0
        trial.produce(500)
        trial.until_committed()

        whole(trial)


def test_partitions_that_come_without_their_changelogs_wait_for_them(new_trial: NewTrial) -> None:
    """Who subscribes to less than the others has the assignor part what belongs together: read
    all the same, those partitions would begin anew, and what was known of them be lost.
    """
    with new_trial() as trial:
        trial.produce(1000)
        first = trial.start()
        trial.until_committed()
        half = trial.start(HALF="1")
        trial.until_joined(2)
        trial.until(lambda: "their changelogs to another" in trial.said(), "that it is parted")
        trial.produce(1000)
        half.kill()
        trial.until_joined(1)
        trial.until_committed()

        assert first.poll() is None
        assert "is cold" not in trial.said()
        whole(trial)


def test_a_worker_that_is_stopped_while_it_starts_never_joins(new_trial: NewTrial) -> None:
    """Before its tables register it knows half of its topics: stock joins with that half."""
    with new_trial() as trial:
        trial.produce(1000)
        trial.start()
        trial.until_committed()
        before = trial.said().count("reading goes on")
        for _ in range(3):
            stopped = trial.start(STOPPED="1")
            assert trial.until_ended(stopped) == 0
        trial.produce(500)
        trial.until_committed()

        assert trial.said().count("reading goes on") == before
        assert "their changelogs to another" not in trial.said()
        whole(trial)


@pytest.mark.parametrize("phase", [0, 1], ids=["before the marker", "after the marker"])
def test_a_write_torn_by_a_kill_is_finished_on_redelivery(
    new_trial: NewTrial, tmp_path: Path, phase: int
) -> None:
    """Between two rows of one value there is always an instant to die in."""
    with new_trial(kill_after_phase=phase, flag=str(tmp_path / "killed")) as trial:
        trial.produce(400)
        first = trial.start()
        assert trial.until_ended(first) == -signal.SIGKILL
        assert not trial.committed_to_the_end()
        trial.start()
        trial.until_committed()

        whole(trial)


def test_each_poison_record_becomes_one_dead_letter_and_harms_no_neighbour(
    new_trial: NewTrial,
) -> None:
    """In stock Faust one bad record takes up to its whole batch along."""
    with new_trial() as trial:
        for _ in range(5):
            trial.produce(60)
            trial.produce(1, worker.POISON)
        trial.start()
        trial.until_committed()

        whole(trial, rejected=5)
        assert trial.verdict().duplicates == 0


def test_a_body_that_raises_ends_the_worker_and_loses_nothing(new_trial: NewTrial) -> None:
    """Stock Faust acknowledges what it failed on and goes on with the next."""
    with new_trial() as trial:
        trial.produce(200)
        trial.produce(1, worker.FATAL)
        trial.produce(200)
        first = trial.start(FATAL="1")
        assert trial.until_ended(first) not in (0, EXIT_STUCK)
        assert "the body failed" in trial.said()
        trial.start()
        trial.until_committed()

        whole(trial)


def test_a_state_that_cannot_be_written_ends_the_worker_before_its_offsets_count(
    new_trial: NewTrial,
) -> None:
    """A worker commits once more as it ends: that commit must not pass over the failure."""
    with new_trial(nap_s=0.05, most=20) as trial:
        trial.produce(400)
        first = trial.start(UNPACKABLE="10")
        assert trial.until_ended(first) not in (0, EXIT_STUCK)
        assert "cannot be packed" in trial.said()
        trial.start()
        trial.until_committed()

        whole(trial)


@pytest.mark.parametrize(
    ("value", "why"),
    [(worker.STUCK, "has not finished the batch"), (worker.BLOCKED, "event loop has not turned")],
    ids=["agent waits for ever", "loop is blocked"],
)
def test_a_worker_that_stands_still_is_ended(new_trial: NewTrial, value: bytes, why: str) -> None:
    """Nobody sees a worker that holds its partitions and does nothing."""
    with new_trial(patience_s=3.0) as trial:
        trial.produce(50)
        trial.produce(1, value)
        first = trial.start(**{value.decode().upper(): "1"})
        assert trial.until_ended(first) == EXIT_STUCK
        assert why in trial.said()
        trial.start()
        trial.until_committed()

        whole(trial)


def test_a_worker_that_slept_past_its_session_writes_nothing_over_the_next(
    new_trial: NewTrial,
) -> None:
    """A host that was suspended in the middle of a commit wakes up with old rows in hand."""
    with new_trial(nap_s=0.02, most=10) as trial:
        trial.produce(600)
        sleeper = trial.start(SLEEPER="1")
        trial.until(lambda: asleep(sleeper.pid), "the sleep in a commit")
        trial.start()
        trial.until_committed()
        sleeper.send_signal(signal.SIGCONT)
        trial.until(lambda: "rows not written" in trial.said(), "the refusal to write")

        whole(trial)


def asleep(pid: int) -> bool:
    """True once the process is stopped by a signal."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T"


def test_a_widened_recovery_neither_hangs_nor_loses(new_trial: NewTrial) -> None:
    """Stock recovery drops records that arrive between its seek and its resume."""
    with new_trial(widen_s=0.5, nap_s=0.02, most=20) as trial:
        trial.produce(600, keys=200)
        trial.start()
        trial.until_outputs(200)
        second = trial.start()
        trial.produce(600, keys=200)
        trial.until_outputs(700)
        second.kill()
        trial.until_committed()

        whole(trial)


def test_a_broker_that_freezes_and_restarts_costs_nothing(tmp_path: Path) -> None:
    """Brokers pause for garbage and are restarted for updates; workers outlive both."""
    server = broker_or_skip(tmp_path / "broker")
    try:
        options: dict[str, Any] = {"nap_s": 0.02, "most": 20}
        with Trial(server.bootstrap, "t.", tmp_path, options) as trial:
            trial.produce(800)
            running = trial.start()
            trial.until_outputs(100)
            server.freeze()
            frozen_until_s = time.monotonic() + 3
            while time.monotonic() < frozen_until_s:
                assert running.poll() is None, trial.said()
                time.sleep(0.1)  # a pause has a length; nothing can be awaited in it
            server.thaw()
            trial.until_outputs(300)
            server.stop()
            server.start()
            trial.produce(200)
            trial.until_committed()

            whole(trial)
            assert running.poll() is None
    finally:
        server.stop()
