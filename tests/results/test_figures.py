import io
import itertools
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from harness.plan import Split
from results.artifacts import Embeddings
from results.comparisons import comparisons
from results.figure_style import STYLES, literal, new_figure, style_of, styles_of, to_bytes
from results.figures import FIGURES, class_names, flips_between, main, margins
from results.metrics import alone, compare
from results.paper_figures import figure3, figure4
from results.pareto import Span, pareto
from results.predictions import Predictions
from results.statistics import Interval
from results.store import Record
from tests.results.store_making import FINISHED, diverge, finish, plan, publish


def comparison_of(store, runs):
    (comparison,) = comparisons(store, [run.document() for run in runs])
    return comparison


def texts(made) -> list[str]:
    made.draw_without_rendering()
    return [text.get_text() for text in made.findobj(lambda artist: hasattr(artist, "get_text"))]


@pytest.mark.parametrize("name", FIGURES)
def test_every_picture_is_drawn_and_is_no_blank(finished_store, name):
    made = FIGURES[name](finished_store, comparison_of(finished_store, plan()))
    assert np.asarray(Image.open(io.BytesIO(to_bytes(made, "png"))).convert("L")).std() > 5


@pytest.mark.parametrize("name", FIGURES)
def test_without_the_old_model_a_picture_is_empty_and_no_error(store, name):
    runs = plan(methods=("none", "mpt-kl"))
    for run in runs:
        finish(store, run)
    for run in runs:
        if run.role == "old":
            (store.folder(run.id) / "record.json").unlink()
    to_bytes(FIGURES[name](store, comparison_of(store, runs)), "png")


def test_the_same_records_give_the_same_picture(finished_store):
    comparison = comparison_of(finished_store, plan())
    assert to_bytes(pareto(finished_store, comparison), "svg") == to_bytes(
        pareto(finished_store, comparison), "svg"
    )


def test_the_pareto_plot_shows_the_means_of_the_table(finished_store):
    comparison = comparison_of(finished_store, plan(methods=("none", "mpt-kl")))
    made = pareto(finished_store, comparison)
    shown = {tuple(line.get_xydata()[0]) for line in made.axes[0].get_lines() if len(line.get_xydata()) == 1}
    for row in comparison.candidates:
        point = (100 * row.summary("er_all").mean, 100 * row.summary("nfr").mean)
        assert any(point == pytest.approx(other) for other in shown)


@pytest.mark.parametrize(("seeds", "over"), [((0, 1, 2), "seeds and samples"), ((0,), "test samples alone")])
def test_intervals_say_what_they_are_over(store, seeds, over):
    runs = plan(seeds=seeds)
    for run in runs:
        finish(store, run)
    assert f"bars: 95 % intervals over {over}" in texts(pareto(store, comparison_of(store, runs)))


def test_flips_between_classes_are_counted(finished_store):
    comparison = comparison_of(finished_store, plan())
    counts = flips_between(finished_store, comparison).axes[0].get_images()[0].get_array()
    negative = sum(
        round(r.metrics["nfr"] * r.metrics["samples_old"])
        for r in finished_store.records()
        if r.run["label"] == "none"
    )
    assert counts.shape == (3, 6)
    assert counts.sum() == negative
    assert np.diag(counts).sum() == 0


def test_a_method_that_diverged_is_left_out_and_the_rest_is_drawn(store):
    runs = plan()
    for run in runs:
        if run.role == "candidate" and run.method == "mpt-kl":
            diverge(store, run, "NaN")
        else:
            finish(store, run)
    said = " ".join(texts(margins(store, comparison_of(store, runs))))
    assert "pct-kl" in said
    assert "mpt-kl" not in said


def test_names_of_classes_come_from_the_records_and_are_no_mathematics(finished_store):
    runs = plan()
    names = ["$a$", "b", "c", "d", "e", "f"]
    for record in [record for record in finished_store.records() if record.run["role"] == "old"]:
        predictions = finished_store.predictions(record)
        attempt = finished_store.begin(record.id)
        publish(attempt, replace(record, environment={"class_names": names}, files={}), predictions)
    comparison = comparison_of(finished_store, runs)
    assert class_names(comparison) == names
    assert r"\$a\$" in texts(flips_between(finished_store, comparison))


def test_every_method_has_a_style_of_its_own():
    assert len({(l.colour, l.marker, l.line) for l in STYLES.values()}) == len(STYLES)  # noqa: E741
    assert style_of("my-method") == style_of("my-method")
    assert literal("a$b$") == r"a\$b\$"
    assert new_figure(title="x" * 300)


def embeddings(classes, samples=60) -> Embeddings:
    random = np.random.default_rng(classes)
    angle = 2 * np.pi * np.arange(classes) / classes
    weight = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    target = np.arange(samples) % classes
    points = (4 * weight[target] + random.normal(size=(samples, 2))).astype(np.float32)
    prediction = (points @ weight.T).argmax(axis=1)
    return Embeddings(
        embedding=points,
        target=target,
        prediction=prediction,
        weight=weight,
        bias=np.zeros(classes, np.float32),
    )


def test_embeddings_survive_their_file_and_must_fit_together():
    made = embeddings(6)
    again = Embeddings.from_bytes(made.to_bytes())
    assert again.embedding.tolist() == made.embedding.tolist()
    with pytest.raises(ValueError, match="weight has shape"):
        replace(made, weight=made.weight[:3])


def test_figure_3_draws_six_panels_and_says_what_is_missing(store):
    runs = plan(methods=("none", "pct-kl", "mpt-kl"), seeds=(0,))
    for run in runs:
        record = finish(store, run)
        if run.role != "reference" and run.method != "pct-kl":
            attempt = store.begin(run.id)
            name = attempt.name("embeddings.npz")
            data = embeddings(3 if run.role == "old" else 6).to_bytes()
            files = {name: attempt.write(name, data)}
            predictions = store.predictions(record)
            publish(attempt, replace(record, files=files), predictions)
    made = figure3(store, comparison_of(store, runs))
    assert len(made.axes) == 6
    assert texts(made).count("no embeddings") == 3


def test_figure_4_has_a_bar_and_a_point_for_each_k(store):
    runs = plan(
        methods=("mpt-kl[k=0]", "mpt-kl[k=2]", "mpt-lm[k=0]", "mpt-lm[k=2]", "mpt-lm[k=10]"), seeds=(0, 1)
    )
    for run in runs:
        finish(store, run)
    comparison = comparison_of(store, runs)
    made = figure4(store, comparison)
    bars, lines = made.axes
    heights = sorted(bar.get_height() for bar in bars.patches)
    assert heights == pytest.approx(sorted(100 * row.summary("er_all").mean for row in comparison.candidates))
    assert [label.get_text() for label in bars.get_xticklabels()] == ["0", "2", "10"]
    assert sum(len(line.get_xdata()) for line in lines.get_lines() if line.get_linestyle() in "---") >= 5


def test_the_command_writes_png_and_svg(finished_store, tmp_path, capsys):
    assert main([f"runs={finished_store.root}", f"out={tmp_path / 'out'}"]) == 0
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {f"digits-1-{name}.{form}" for name in FIGURES for form in ("png", "svg")}


def test_a_mistake_is_one_line_and_exit_code_2(finished_store, capsys):
    assert main(["runs=nowhere"]) == 2
    assert main([f"runs={finished_store.root}", "dataset=cifar10"]) == 2
    assert main([f"runs={finished_store.root}", f"out={__file__}"]) == 2
    err = capsys.readouterr().err.splitlines()
    assert "no such folder" in err[0]
    assert "dataset=cifar10: no such candidate" in err[1]
    assert "a file; name a folder for the figures" in err[2]


def finished(store, methods, *, seeds=(0,), accuracy=None):
    runs = plan(methods=methods, seeds=seeds, references=0)
    for run in runs:
        finish(store, run, accuracy=accuracy)
    return comparison_of(store, runs)


MANY = ("none", "mpt-kl", *(f"mpt-kl[lambda={x},k={k}]" for x in (0.5, 1, 2) for k in range(7)), "a", "b")


@pytest.mark.parametrize("methods", [MANY[:3], MANY[:8], MANY], ids=len)
@pytest.mark.parametrize("name", FIGURES)
def test_no_label_is_cut_off_or_lies_on_another(store, name, methods):
    made = FIGURES[name](store, finished(store, methods))
    made.draw_without_rendering()
    labels = [axes.title for axes in made.axes]
    for axes in made.axes:
        low, high = axes.bbox.y0 - 1, axes.bbox.y1 + 1
        for text in axes.get_yticklabels():  # some that matplotlib keeps lie outside the axis
            box = text.get_window_extent()
            labels += [text] if low <= (box.y0 + box.y1) / 2 <= high else []
    legends = [*made.legends, *(axes.get_legend() for axes in made.axes if axes.get_legend())]
    labels += [text for legend in legends for text in legend.get_texts()]
    boxes = [text.get_window_extent() for text in labels if text.get_text() and text.get_visible()]
    for one, other in itertools.combinations(boxes, 2):
        overlap = min(one.x1, other.x1) - max(one.x0, other.x0), min(one.y1, other.y1) - max(one.y0, other.y0)
        assert min(overlap) < 1, "a pixel is rounding"
    assert min(box.x0 for box in boxes) >= 0
    assert min(box.y0 for box in boxes) >= 0
    assert max(box.x1 for box in boxes) <= made.bbox.x1
    assert max(box.y1 for box in boxes) <= made.bbox.y1


def test_methods_and_their_variants_are_told_apart_in_the_order_of_the_table(store):
    made = pareto(store, finished(store, MANY))
    names = [label.get_text() for label in made.axes[-1].get_yticklabels()]
    assert sorted(names) == sorted(MANY)
    styles = styles_of([("mpt-kl", label) for label in MANY[1:8]])
    assert len({(style.colour, style.marker) for style in styles.values()}) == 7
    assert styles["mpt-kl"] == style_of("mpt-kl")
    own = styles_of([(f"method-{i}", f"method-{i}") for i in range(25)])
    assert len({(style.colour, style.marker) for style in own.values()}) == 25


def test_a_method_far_above_all_others_is_an_arrow_with_its_value_and_squashes_nothing(store):
    methods = ("none", "pct-kl", "pct-naive", "elodi")
    accuracy = dict.fromkeys(methods, 0.98) | {"elodi": 0.05}
    comparison = finished(store, methods, seeds=(0, 1, 2), accuracy=accuracy)
    made = pareto(store, comparison)
    plane, errors, flips = made.axes
    far = next(row for row in comparison.candidates if row.label == "elodi")
    for axes, metric in ((errors, "er_all"), (flips, "nfr")):
        assert f"{100 * far.summary(metric).mean:.1f}" in [text.get_text() for text in axes.texts]
        others = [100 * row.summary(metric).mean for row in comparison.candidates if row is not far]
        low, high = axes.get_xlim()
        assert low < min(others) <= max(others) < high < 100 * far.summary(metric).mean
    assert plane.get_xlim() == errors.get_xlim()
    assert plane.get_ylim() == flips.get_xlim()
    assert "bars: 95 % intervals over seeds and samples; arrows: beyond the axis" in texts(made)


def test_an_axis_ends_before_exceptions_alone():
    def beyond(*highs, share=0.2):
        found = Span.of({str(high): Interval(high - 1, high - 2, high) for high in highs}, share=share)
        return sorted(found.beyond), found.high

    assert beyond(2, 3, 4) == ([], 4)
    assert beyond(2, 3, 60) == (["60"], 3)
    assert beyond(2, 60) == ([], 60), "one of two is no exception"
    assert beyond(2, 3, 4, 3.5, 58, 60) == (["58", "60"], 4)
    assert beyond(2, 3, 4, 57, 58, 60) == ([], 60), "half of them are no exceptions"
    assert beyond(2, 3, 2.5, 3.5, 2.2, 2.4, 2.6, 30, 300) == (["30", "300"], 3.5)
    assert beyond(2, 2.5, 9, share=0.5) == (["9"], 2.5)


def with_many_classes(store, classes=60, old_classes=30, samples=1800):
    """One seed of two methods; the old class 7 flips most often, to class 8."""
    split = Split(classes=classes, old_classes=old_classes)
    runs = [
        replace(run, split=split if run.role != "reference" else Split(classes=classes, old_classes=classes))
        for run in plan(methods=("none", "mpt-kl"), seeds=(0,), references=0)
    ]
    runs = [runs[0], *(replace(run, parents=(runs[0].id,)) for run in runs[1:])]
    target = np.arange(samples) % classes
    for run in runs:
        index = np.flatnonzero(target < (old_classes if run.role == "old" else classes))
        right = np.ones(len(index), bool)
        if run.role == "candidate":
            right = np.arange(len(index)) // classes > target[index] % 5
            right &= target[index] != 7
        prediction = np.where(right, target[index], target[index] + 1)
        predictions = Predictions(index=index, target=target[index], prediction=prediction % classes)
        old = store.read(runs[0].id)
        metrics = alone(predictions, on="old")
        if old is not None:
            metrics = compare(store.predictions(old), predictions, old_classes=old_classes)
        names = [f"class {c}, also known as a long name" for c in range(classes)]
        record = Record(
            run=run.document(), state="done", metrics=metrics, environment={"class_names": names},
            attempt=1, finished=FINISHED,
        )  # fmt: skip
        publish(store.begin(run.id), record, predictions)
    return comparison_of(store, runs)


def test_of_many_classes_those_with_the_most_flips_are_shown_and_counted(store):
    comparison = with_many_classes(store)
    by_class = FIGURES["flips-by-class"](store, comparison)
    names = [label.get_text() for label in by_class.axes[0].get_xticklabels()]
    assert names[0] == "class 7"
    assert len(names) == 20
    assert by_class.axes[0].get_images()[0].get_array().shape == (2, 20)
    assert "true class: the 20 of 30 old classes with the most flips" in texts(by_class)

    between = flips_between(store, comparison)
    pairs = [label.get_text() for label in between.axes[0].get_yticklabels()]
    assert pairs[0] == "class 7 → class 8"
    assert len(pairs) == 20
    assert any("the 20 most frequent of 30 pairs" in text for text in texts(between))
