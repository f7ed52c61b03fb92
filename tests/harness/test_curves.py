"""Test metrics by epoch and trackers: they change nothing about training, and survive an interruption."""

import sys

import pytest

from common.exits import INTERRUPTED
from harness import sweep

WORDS = ("methods=none,mpt-kl", "seeds=0", "epochs=3")


def histories(bench, *words):
    """Histories by label and seed, of all roles."""
    bench.run(*words)
    return {run.label: bench.store.history(bench.store.read(run.id)) for run in bench.plan(*words)}


def test_metrics_by_epoch_change_nothing_about_training(bench, other_bench):
    plain, tested = histories(bench, *WORDS), histories(other_bench, *WORDS, "evaluate_every=2")

    for label, history in tested.items():
        assert [any(name.startswith("test/") for name in epoch) for epoch in history] == [False, True, True]
        assert [
            {name: value for name, value in epoch.items() if not name.startswith("test/")}
            for epoch in history
        ] == plain[label]
    for run in bench.plan(*WORDS):
        (one, other), last = (b.store.read(run.id) for b in (bench, other_bench)), tested[run.label][-1]
        assert one.metrics == other.metrics
        expected = {"er_old"} if run.role == "old" else {"er_all"} if run.role == "reference" else None
        names = {name.removeprefix("test/") for name in last if name.startswith("test/")}
        assert names == (expected or {"er_all", "er_old", "nfr"})
        assert all(last[f"test/{name}"] == other.metrics[name] for name in names)


def test_a_tracker_has_every_epoch_of_a_resumed_run_once(bench, stop_after):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    words = ("methods=none", "seeds=0", "epochs=3", "track=tensorboard", "evaluate_every=1")
    ((_, old), (_, candidate)) = bench.jobs(*words)
    assert bench.do(old) == 0
    with stop_after(9):  # in the second of three epochs
        assert bench.do(candidate) == INTERRUPTED
    assert bench.do(candidate) == 0

    run = bench.plan(*words)[1]
    events = accumulator.EventAccumulator(str(bench.runs / "tracking" / "tensorboard" / run.id)).Reload()
    history = bench.store.history(bench.store.read(run.id))
    for name in ("loss", "lr", "train_accuracy", "test/nfr", "test/er_all"):
        assert [event.step for event in events.Scalars(name)] == [0, 1, 2]
        assert [event.value for event in events.Scalars(name)] == pytest.approx(
            [epoch[name] for epoch in history]
        )


def test_a_missing_tracker_is_one_line_before_anything_starts(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb", None)

    assert sweep.main(["methods=none", "seeds=0", "track=wandb", f"runs={tmp_path / 'runs'}"]) == 2
    assert capsys.readouterr().err.startswith("error: track=wandb: ")
    assert not (tmp_path / "runs").exists()
