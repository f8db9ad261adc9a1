"""What every Store does. A test module subclasses StoreConformance and gives it a fixture ``store``."""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor

import attrs
import pytest
from hypothesis import given, settings

from fettle.backends.api import Outcome, Profile, Record, Roof, Schedule
from fettle.graph import codec
from fettle.graph.errors import Conflict, InvalidArgument, NotFound, Unavailable
from fettle.store.api import Pruned, Store
from fettle.store.jobs import JobState
from tests.store.samples import (
    ARTIFACT,
    CPU,
    GEMV,
    NPU,
    PROFILE,
    SOFTMAX,
    kernel,
    record,
    records,
    result,
    spec,
)

MISSING = "0000000000000"


class JobConformance:
    def test_new_job_is_queued_and_reads_back(self, store: Store) -> None:
        job, created = store.create_job(spec())
        assert created
        assert (job.state, job.trials, job.failed, job.results, job.error) == (JobState.QUEUED, 0, 0, (), "")
        assert job.spec == spec()
        assert job.spec.device.label == "Zen 5"
        assert store.get_job(job.id) == job

    def test_equal_spec_joins_the_job_in_flight(self, store: Store) -> None:
        first, _ = store.create_job(spec())
        store.move_job(first.id, [JobState.QUEUED], JobState.RUNNING)
        second, created = store.create_job(spec(title="another file, same work"))
        assert (second.id, second.state, created) == (first.id, JobState.RUNNING, False)

    def test_other_spec_makes_another_job(self, store: Store) -> None:
        assert store.create_job(spec(1))[0].id != store.create_job(spec(2))[0].id

    @pytest.mark.parametrize("final", [state for state in JobState if state.is_final])
    def test_final_job_is_not_joined(self, store: Store, final: JobState) -> None:
        first, _ = store.create_job(spec())
        store.move_job(first.id, [JobState.QUEUED], final)
        second, created = store.create_job(spec())
        assert created
        assert second.id > first.id

    def test_ids_sort_by_creation(self, store: Store) -> None:
        ids = [store.create_job(spec(seed))[0].id for seed in range(20)]
        assert ids == sorted(set(ids))
        assert {len(job_id) for job_id in ids} == {13}

    def test_concurrent_creates_join_one_job(self, store: Store) -> None:
        with ThreadPoolExecutor(8) as threads:
            made = list(threads.map(lambda _: store.create_job(spec()), range(16)))
        assert len({job.id for job, _ in made}) == 1
        assert sum(created for _, created in made) == 1

    def test_move_is_compare_and_set(self, store: Store) -> None:
        job, _ = store.create_job(spec())
        assert not store.move_job(job.id, [JobState.RUNNING, JobState.PAUSED], JobState.DONE)
        assert store.get_job(job.id).state is JobState.QUEUED
        assert store.move_job(job.id, [JobState.QUEUED], JobState.RUNNING)
        assert store.move_job(job.id, [JobState.RUNNING], JobState.FAILED, "the device burnt")
        assert store.get_job(job.id).error == "the device burnt"
        assert not store.move_job(job.id, [], JobState.RUNNING)

    def test_only_one_of_many_claims_a_job(self, store: Store) -> None:
        job, _ = store.create_job(spec())
        with ThreadPoolExecutor(8) as threads:
            claims = threads.map(lambda _: store.move_job(job.id, [JobState.QUEUED], JobState.RUNNING), range(8))
            assert sum(claims) == 1

    def test_error_text_of_any_bytes_is_kept_readable(self, store: Store) -> None:
        job, _ = store.create_job(spec())
        store.move_job(job.id, [JobState.QUEUED], JobState.FAILED, "bad \0 output \udcff é")
        assert store.get_job(job.id).error == "bad � output ��� é"

    def test_final_job_does_not_come_back_beside_its_successor(self, store: Store) -> None:
        old, _ = store.create_job(spec())
        store.move_job(old.id, [JobState.QUEUED], JobState.FAILED)
        store.create_job(spec())
        with pytest.raises(Conflict):
            store.move_job(old.id, [JobState.FAILED], JobState.QUEUED)
        assert store.get_job(old.id).state is JobState.FAILED

    def test_cancel_ends_a_waiting_job_at_once(self, store: Store) -> None:
        queued, _ = store.create_job(spec(1))
        paused, _ = store.create_job(spec(2))
        store.move_job(paused.id, [JobState.QUEUED], JobState.PAUSED)
        for job in (queued, paused):
            cancelled = store.request_cancel(job.id)
            assert (cancelled.state, cancelled.cancel_requested) == (JobState.CANCELLED, False)
            assert store.get_job(job.id) == cancelled

    def test_cancel_marks_a_running_job_until_it_ends(self, store: Store) -> None:
        job, _ = store.create_job(spec())
        store.move_job(job.id, [JobState.QUEUED], JobState.RUNNING)
        assert not store.cancel_requested(job.id)
        marked = store.request_cancel(job.id)
        assert (marked.state, marked.cancel_requested) == (JobState.RUNNING, True)
        assert store.cancel_requested(job.id)
        assert store.request_cancel(job.id).cancel_requested
        store.move_job(job.id, [JobState.RUNNING], JobState.CANCELLED)
        assert not store.get_job(job.id).cancel_requested

    def test_cancel_of_a_final_job_conflicts(self, store: Store) -> None:
        job, _ = store.create_job(spec())
        store.move_job(job.id, [JobState.QUEUED], JobState.DONE)
        with pytest.raises(Conflict):
            store.request_cancel(job.id)

    def test_claimed_job_is_refused_to_others_until_it_is_let_go(self, store: Store) -> None:
        job, other = store.create_job(spec(1))[0], store.create_job(spec(2))[0]
        with store.claim_job(job.id), store.claim_job(other.id):
            with pytest.raises(Conflict, match=job.id), store.claim_job(job.id):
                pass
            with pytest.raises(Conflict, match=other.id), store.claim_job(other.id):
                pass
        with store.claim_job(job.id):
            pass

    def test_claim_says_that_it_holds(self, store: Store) -> None:
        job, _ = store.create_job(spec())
        with store.claim_job(job.id) as held:
            held()
            held()

    def test_claim_is_let_go_when_its_holder_fails(self, store: Store) -> None:
        job, _ = store.create_job(spec())
        with pytest.raises(ZeroDivisionError), store.claim_job(job.id):
            _ = 1 // 0
        with store.claim_job(job.id):
            pass

    def test_one_of_many_threads_at_a_time_holds_a_claim(self, store: Store) -> None:
        job, _ = store.create_job(spec())
        holding: list[int] = []

        def contend(number: int) -> int:
            taken = 0
            for _ in range(20):
                with contextlib.suppress(Conflict), store.claim_job(job.id):
                    holding.append(number)
                    assert holding == [number]
                    holding.remove(number)
                    taken += 1
            return taken

        with ThreadPoolExecutor(4) as threads:
            assert sum(threads.map(contend, range(4))) > 0

    def test_results_replace_by_workload_and_keep_their_order(self, store: Store) -> None:
        job, _ = store.create_job(spec())
        store.put_result(job.id, result(GEMV, best_s=3e-6))
        store.put_result(job.id, result(SOFTMAX, error="no backend", best_s=None, count=1))
        store.put_result(job.id, result(GEMV))
        assert store.get_job(job.id).results == (
            result(GEMV),
            result(SOFTMAX, error="no backend", best_s=None, count=1),
        )
        assert store.list_jobs().jobs[0].best_s == 2 * 1e-6

    def test_missing_job_is_not_found(self, store: Store) -> None:
        for call in (
            lambda: store.get_job(MISSING),
            lambda: store.move_job(MISSING, [JobState.QUEUED], JobState.RUNNING),
            lambda: store.claim_job(MISSING).__enter__(),
            lambda: store.request_cancel(MISSING),
            lambda: store.cancel_requested(MISSING),
            lambda: store.put_result(MISSING, result()),
            lambda: store.append_event(MISSING, "state", {}),
            lambda: store.events(MISSING),
            lambda: store.add_record(MISSING, record()),
            lambda: store.get_job("'; DROP TABLE jobs; --"),
        ):
            with pytest.raises(NotFound):
                call()
        assert store.stats().records == 0


class PageConformance:
    def test_pages_hold_every_job_once_newest_first(self, store: Store) -> None:
        ids = [store.create_job(spec(seed))[0].id for seed in range(7)]
        seen, token = [], ""
        for expected in (3, 3, 1):
            page = store.list_jobs(3, token)
            assert len(page.jobs) == expected
            seen += [job.id for job in page.jobs]
            token = page.next_token
        assert token == ""
        assert seen == ids[::-1]

    def test_last_full_page_has_no_token(self, store: Store) -> None:
        for seed in range(4):
            store.create_job(spec(seed))
        assert store.list_jobs(2, store.list_jobs(2).next_token).next_token == ""

    def test_tokens_stay_valid_while_jobs_are_added(self, store: Store) -> None:
        ids = [store.create_job(spec(seed))[0].id for seed in range(4)]
        token = store.list_jobs(2).next_token
        store.create_job(spec(99))
        assert [job.id for job in store.list_jobs(2, token).jobs] == [ids[1], ids[0]]

    def test_states_filter_pages(self, store: Store) -> None:
        ids = [store.create_job(spec(seed))[0].id for seed in range(6)]
        for job_id in ids[::2]:
            store.move_job(job_id, [JobState.QUEUED], JobState.DONE)
        first = store.list_jobs(2, states=[JobState.DONE])
        second = store.list_jobs(2, first.next_token, states=[JobState.DONE])
        assert [job.id for job in (*first.jobs, *second.jobs)] == [ids[4], ids[2], ids[0]]
        with pytest.raises(InvalidArgument, match="other states"):
            store.list_jobs(2, first.next_token)

    @pytest.mark.parametrize("token", ["x", "7", "é", "====", "bDM6", "0" * 500, MISSING])
    def test_bad_token_is_refused(self, store: Store, token: str) -> None:
        with pytest.raises(InvalidArgument):
            store.list_jobs(2, token)

    def test_page_size_is_positive_and_bounded(self, store: Store) -> None:
        store.create_job(spec())
        for size in (0, -1):
            with pytest.raises(InvalidArgument):
                store.list_jobs(size)
        assert len(store.list_jobs(2**70).jobs) == 1


class EventConformance:
    def test_events_are_numbered_from_one_and_read_from_anywhere(self, store: Store) -> None:
        job, _ = store.create_job(spec())
        written = [store.append_event(job.id, "trial", {"trial": i, "best_s": i / 3}) for i in range(5)]
        assert [event.number for event in written] == [1, 2, 3, 4, 5]
        assert store.events(job.id) == tuple(written)
        assert store.events(job.id, after=3) == tuple(written[3:])
        assert store.events(job.id, after=1, limit=2) == tuple(written[1:3])
        assert store.events(job.id, after=2**70) == ()

    def test_numbers_have_no_gaps_under_concurrent_appends(self, store: Store) -> None:
        jobs = [store.create_job(spec(seed))[0].id for seed in range(2)]
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda i: store.append_event(jobs[i % 2], "trial", {"i": i}), range(60)))
        for parity, job_id in enumerate(jobs):
            events = store.events(job_id)
            assert [event.number for event in events] == list(range(1, 31))
            assert {event.data["i"] for event in events} == set(range(parity, 60, 2))

    def test_event_that_is_no_plain_data_is_refused_and_takes_no_number(self, store: Store) -> None:
        job, _ = store.create_job(spec())
        with pytest.raises(InvalidArgument):
            store.append_event(job.id, "trial", {"x": object()})
        assert store.append_event(job.id, "trial", {}).number == 1

    def test_limit_is_positive(self, store: Store) -> None:
        job, _ = store.create_job(spec())
        with pytest.raises(InvalidArgument):
            store.events(job.id, limit=0)

    def test_changing_what_came_back_does_not_change_what_is_stored(self, store: Store) -> None:
        job, _ = store.create_job(spec())
        given_data: dict[str, object] = {"list": [1, 2], "map": {"a": 1}}
        event = store.append_event(job.id, "trial", given_data)
        for data in (given_data, event.data, store.events(job.id)[0].data):
            data["list"].append(3)  # type: ignore[attr-defined]
            data["map"]["b"] = 2  # type: ignore[index]
            data["new"] = True
        assert store.events(job.id)[0].data == {"list": [1, 2], "map": {"a": 1}}
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            store.get_job(job.id).state = JobState.DONE  # type: ignore[misc]


class RecordConformance:
    def test_records_come_back_as_they_were_in_order_of_arrival(self, store: Store) -> None:
        job, _ = store.create_job(spec())
        trials = [record(4), record(2, outcome=Outcome.CRASH), record(8)]
        for trial in trials:
            store.add_record(job.id, trial)
        store.add_record(job.id, record(workload=SOFTMAX))
        assert store.job_records(job.id, GEMV.key) == tuple(trials)
        assert store.job_records(job.id, SOFTMAX.key) == (record(workload=SOFTMAX),)
        assert store.job_records(job.id, "0" * 64) == ()

    def test_trials_are_counted_with_the_record(self, store: Store) -> None:
        job, _ = store.create_job(spec())
        for tile, outcome in enumerate([Outcome.OK, Outcome.TIMEOUT, Outcome.OK, Outcome.WRONG_RESULT], start=1):
            store.add_record(job.id, record(tile, outcome=outcome))
        found = store.get_job(job.id)
        assert (found.trials, found.failed) == (4, 2)

    def test_a_record_and_its_event_are_stored_together_and_once(self, store: Store) -> None:
        job, _ = store.create_job(spec())
        event = store.add_record(job.id, record(4), {"trial": 1})
        assert event is not None
        assert store.add_record(job.id, record(4), {"trial": 1}) is None
        assert store.events(job.id) == (event,)
        assert (event.number, event.kind, event.data) == (1, "trial", {"trial": 1})
        with pytest.raises(InvalidArgument):
            store.add_record(job.id, record(2), {"trial": object()})
        assert store.job_records(job.id, GEMV.key) == (record(4),)
        assert store.events(job.id) == (event,)

    def test_trials_stored_together_are_stored_in_order_or_not_at_all(self, store: Store) -> None:
        job, _ = store.create_job(spec())
        assert store.add_records(job.id, []) == ()
        first, none, again, last = store.add_records(
            job.id,
            [(record(1), {"trial": 1}), (record(2), None), (record(1), {"trial": 1}), (record(4), {"trial": 3})],
        )
        assert (none, again) == (None, None)
        assert store.events(job.id) == (first, last)
        assert [event.data for event in store.events(job.id)] == [{"trial": 1}, {"trial": 3}]
        stored = (record(1), record(2), record(4))
        assert store.job_records(job.id, GEMV.key) == stored
        with pytest.raises(InvalidArgument):
            store.add_records(job.id, [(record(5), None), (record(6), {"trial": object()})])
        assert store.job_records(job.id, GEMV.key) == stored
        assert store.get_job(job.id).trials == 3

    def test_adding_a_candidate_again_changes_nothing(self, store: Store) -> None:
        job, _ = store.create_job(spec())
        other, _ = store.create_job(spec(1))
        store.add_record(job.id, record(4))
        store.add_record(job.id, record(4, outcome=Outcome.CRASH))
        store.add_record(other.id, record(4))
        assert store.job_records(job.id, GEMV.key) == (record(4),)
        assert (store.get_job(job.id).trials, store.get_job(job.id).failed) == (1, 0)
        assert store.stats().records == 2

    def test_concurrent_records_are_all_counted(self, store: Store) -> None:
        job, _ = store.create_job(spec())
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda i: store.add_record(job.id, record(i % 20 + 1)), range(40)))
        assert store.get_job(job.id).trials == 20
        assert len(store.job_records(job.id, GEMV.key)) == 20

    def test_records_across_jobs_are_newest_first_and_filtered(self, store: Store) -> None:
        first, _ = store.create_job(spec(1))
        second, _ = store.create_job(spec(2))
        trials = [record(1), record(2, device=NPU), record(3, workload=SOFTMAX), record(4)]
        for job, trial in zip([first, second, first, second], trials, strict=True):
            store.add_record(job.id, trial)
        assert store.records() == tuple(trials[::-1])
        assert store.records(workload_key=GEMV.key) == (trials[3], trials[1], trials[0])
        assert store.records(device_key=NPU.key) == (trials[1],)
        assert store.records(GEMV.key, CPU.key, limit=1) == (trials[3],)
        assert store.records(operator="softmax") == (trials[2],)
        assert store.records(before_job=first.id) == ()
        assert store.records(before_job=second.id) == (trials[2], trials[0])
        assert store.records(before_job=second.id, operator=GEMV.operator) == (trials[0],)

    def test_trials_are_read_page_by_page_in_order_of_arrival(self, store: Store) -> None:
        first, _ = store.create_job(spec(1))
        second, _ = store.create_job(spec(2))
        unknown = attrs.evolve(record(5), record_version=99)
        made = [record(1), unknown, record(2, device=NPU), record(3, workload=SOFTMAX), record(4)]
        jobs = [first.id, first.id, second.id, first.id, second.id]
        for job, trial in zip(jobs, made, strict=True):
            store.add_record(job, trial)

        def read(limit: int, **only: str) -> list[tuple[str, Record]]:
            found, after = [], 0
            while True:
                page = store.trials(after, limit, **only)
                assert len(page.trials) <= limit
                found += [(t.job_id, t.record) for t in page.trials]
                if page.next is None:
                    return found
                assert page.next > after
                after = page.next

        expected = [pair for pair in zip(jobs, made, strict=True) if pair[1] is not unknown]
        for limit in (1, 2, 3, 100):
            assert read(limit) == expected
        assert read(1, job_id=second.id) == [expected[1], expected[3]]
        assert read(2, device_key=NPU.key) == [expected[1]]
        assert read(1, operator="softmax") == [expected[2]]
        assert store.trials(10**12).trials == ()
        with pytest.raises(InvalidArgument):
            store.trials(limit=0)
        assert store.records(SOFTMAX.key, NPU.key) == ()

    def test_record_of_an_unknown_version_is_left_out(self, store: Store) -> None:
        job, _ = store.create_job(spec())
        store.add_record(job.id, attrs.evolve(record(1), record_version=99))
        store.add_record(job.id, record(2))
        assert store.records() == (record(2),)
        assert store.job_records(job.id, GEMV.key) == (record(2),)
        assert store.records(limit=1) == (record(2),)

    def test_any_record_round_trips(self, store: Store) -> None:
        @settings(max_examples=25, deadline=None)
        @given(trial=records)
        def round_trips(trial: Record) -> None:
            job, _ = store.create_job(spec())
            store.add_record(job.id, trial)
            store.move_job(job.id, [JobState.QUEUED], JobState.DONE)
            assert store.job_records(job.id, trial.candidate.workload.key) == (trial,)

        round_trips()


class CacheConformance:
    def test_profile_is_none_until_measured_then_replaced(self, store: Store) -> None:
        store.put_device(CPU)
        store.put_device(CPU)
        assert store.get_profile(CPU.key) is None
        store.put_profile(PROFILE)
        assert store.get_profile(CPU.key) == PROFILE
        again = Profile(CPU.key, (Roof("read:dram", 2e10, threads=2),))
        store.put_profile(again)
        assert store.get_profile(CPU.key) == again
        assert store.stats().devices == 1

    def test_artifact_is_addressed_by_its_content(self, store: Store) -> None:
        assert store.put_artifact(ARTIFACT) == ARTIFACT.sha256
        assert store.put_artifact(ARTIFACT) == ARTIFACT.sha256
        assert store.get_artifact(ARTIFACT.sha256) == ARTIFACT
        assert store.stats().artifacts == 1
        assert store.stats().artifact_bytes > len(ARTIFACT.payload)

    @pytest.mark.parametrize("sha256", ["0" * 64, "", "../../etc/passwd", "A" * 64])
    def test_missing_artifact_is_not_found(self, store: Store, sha256: str) -> None:
        with pytest.raises(NotFound):
            store.get_artifact(sha256)

    def test_kernel_reads_back_under_its_key(self, store: Store) -> None:
        store.put_artifact(ARTIFACT)
        store.put_kernel(kernel())
        assert store.get_kernel(kernel().key) == kernel()
        assert store.get_kernel(kernel(mode="cold").key) is None

    def test_kernel_is_replaced_under_its_key(self, store: Store) -> None:
        store.put_artifact(ARTIFACT)
        store.put_kernel(kernel())
        store.put_kernel(kernel(best_s=5e-7, schedule=Schedule.of(tile=8)))
        assert store.kernels() == (kernel(best_s=5e-7, schedule=Schedule.of(tile=8)),)

    def test_kernel_needs_its_artifact(self, store: Store) -> None:
        with pytest.raises(NotFound):
            store.put_kernel(kernel())
        assert store.kernels() == ()

    def test_kernel_of_an_unknown_version_is_a_miss(self, store: Store) -> None:
        store.put_artifact(ARTIFACT)
        store.put_kernel(kernel(version=99))
        assert store.get_kernel(kernel().key) is None
        assert store.kernels() == ()

    def test_kernels_are_newest_first_and_filtered(self, store: Store) -> None:
        store.put_artifact(ARTIFACT)
        made = [kernel(created=3.0), kernel(SOFTMAX, created=5.0), kernel(GEMV, NPU, created=4.0)]
        for each in made:
            store.put_kernel(each)
        assert store.kernels() == (made[1], made[2], made[0])
        assert store.kernels(device_key=CPU.key) == (made[1], made[0])
        assert store.kernels(operator="matmul") == (made[2], made[0])
        assert store.kernels(CPU.key, "matmul") == (made[0],)
        assert store.kernels(limit=1) == (made[1],)

    def test_stats_count_what_is_stored(self, store: Store) -> None:
        job, _ = store.create_job(spec())
        store.add_record(job.id, record(1))
        store.add_record(job.id, record(2, outcome=Outcome.CRASH))
        store.put_artifact(ARTIFACT)
        store.put_kernel(kernel(device=NPU))
        stats = store.stats()
        assert (stats.kernels, stats.records, stats.failed_records, stats.jobs) == (1, 2, 1, 1)
        assert (stats.devices, stats.workloads, stats.artifacts) == (2, 2, 1)

    def test_pruning_takes_artifacts_that_no_kernel_names(self, store: Store) -> None:
        other = attrs.evolve(ARTIFACT, payload=b"of a kernel that was replaced")
        store.put_artifact(ARTIFACT)
        store.put_kernel(kernel())
        store.put_artifact(other)
        before = time.time() - 60
        assert store.prune(before, before) == Pruned(0, 0, 0, 0)
        pruned = store.prune(time.time() + 60)
        assert (pruned.artifacts, pruned.artifact_bytes) == (1, len(codec.dumps(other)))
        assert store.get_artifact(ARTIFACT.sha256) == ARTIFACT
        with pytest.raises(NotFound):
            store.get_artifact(other.sha256)
        store.put_artifact(other)
        assert store.get_artifact(other.sha256) == other

    def test_pruning_takes_ended_jobs_with_all_they_have_but_no_kernel(self, store: Store) -> None:
        ended, running = store.create_job(spec(1))[0], store.create_job(spec(2))[0]
        for job in (ended, running):
            store.add_record(job.id, record(), {"trial": 1})
            store.put_result(job.id, result())
        store.move_job(ended.id, [JobState.QUEUED], JobState.DONE)
        store.put_artifact(ARTIFACT)
        store.put_kernel(kernel())
        assert store.prune(0, time.time() + 60) == Pruned(0, 0, 1, 1)
        with pytest.raises(NotFound):
            store.events(ended.id)
        assert [job.id for job in store.list_jobs().jobs] == [running.id]
        assert len(store.events(running.id)) == len(store.records()) == 1
        assert store.get_kernel(kernel().key) == kernel()

    def test_closed_store_is_unavailable(self, store: Store) -> None:
        store.close()
        store.close()
        with pytest.raises(Unavailable, match="closed"):
            store.stats()


class ModelConformance:
    def test_a_model_is_kept_and_replaced(self, store: Store) -> None:
        key, other = "0a" * 32, "0b" * 32
        assert store.get_model(key) is None
        store.put_model(key, b"one")
        store.put_model(key, b"two\0")
        assert (store.get_model(key), store.get_model(other)) == (b"two\0", None)

    @pytest.mark.parametrize("key", ["", "../" * 22, "0A" * 32, "0a" * 33])
    def test_what_is_no_key_names_no_model(self, store: Store, key: str) -> None:
        with pytest.raises(InvalidArgument):
            store.put_model(key, b"")
        with pytest.raises(InvalidArgument):
            store.get_model(key)


class StoreConformance(
    JobConformance, PageConformance, EventConformance, RecordConformance, CacheConformance, ModelConformance
):
    """All of it."""
