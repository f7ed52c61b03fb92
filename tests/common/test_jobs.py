"""What blocks a job, and what of a job's description is read without the harness."""

import pytest

from common.jobs import JobRef, RunRef, blocked, read_job_ref


def job(name, *, after=(), runs=None):
    """A job of the given runs with their parents; by default one run that learns from all of `after`."""
    runs = {name: tuple(f"{parent}-run" for parent in after)} if runs is None else runs
    refs = tuple(RunRef(id=f"{run}-run", parents=parents) for run, parents in runs.items())
    return JobRef(id=name, title=name, runs=refs, after=tuple(after))


def test_a_failed_job_blocks_all_that_descends_from_it():
    jobs = [job("old"), job("child", after=["old"]), job("grandchild", after=["child"]), job("free")]

    assert blocked(jobs, {"old"}, lambda one: one.run_ids) == {"child": "old", "grandchild": "child"}


def test_a_cohort_is_blocked_once_only_runs_that_learn_from_lost_ones_are_left():
    cohort = job(
        "cohort", after=["old", "reference"], runs={"a": ("old-run", "reference-run"), "b": ("old-run",)}
    )
    jobs = [job("old"), job("reference"), cohort]

    def missing(done):
        return lambda one: [run_id for run_id in one.run_ids if run_id not in done]

    assert blocked(jobs, {"reference"}, missing({"old-run"})) == {}
    assert blocked(jobs, {"reference"}, missing({"old-run", "b-run"})) == {"cohort": "reference"}


def test_a_job_that_failed_by_itself_is_not_blocked():
    jobs = [job("old"), job("child", after=["old"])]

    assert blocked(jobs, {"old", "child"}, lambda one: one.run_ids) == {}

    assert blocked(jobs, {"child"}, lambda one: [] if one.id == "old" else one.run_ids) == {}


def test_a_jobs_description_is_read_as_far_as_scheduling_needs_it(standin_jobs):
    made = standin_jobs.job("job", size=2)
    folder = standin_jobs.job_folder(made)

    assert read_job_ref(folder) == made.ref

    folder.description.write_text("{}")
    with pytest.raises(ValueError, match=r"job.json: not a job's description"):
        read_job_ref(folder)
