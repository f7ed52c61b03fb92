import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from results.artifacts import Embeddings
from results.comparisons import comparisons
from results.figure_style import STYLES, literal, new_figure, style_of, styles_of, to_bytes
from results.figures import FIGURES, class_names, flips_between, main, margins, pareto
from results.paper_figures import figure3, figure4
from tests.results.store_making import diverge, finish, plan, publish


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
    err = capsys.readouterr().err.splitlines()
    assert "no such folder" in err[0]
    assert "dataset=cifar10: no such candidate" in err[1]


def test_variants_of_a_method_are_told_apart_and_their_legend_fits(store):
    variants = tuple(f"mpt-kl[k={k}]" for k in (0, 1, 2, 6, 8, 10))
    runs = plan(methods=("none", "mpt-kl", *variants), seeds=(0,), references=0)
    for run in runs:
        finish(store, run)
    for name in ("pareto", "curves"):
        made = FIGURES[name](store, comparison_of(store, runs))
        made.draw_without_rendering()
        legend = made.axes[-1].get_legend()
        assert [text.get_text() for text in legend.get_texts()] == ["none", "mpt-kl", *variants]
        box = legend.get_window_extent()
        assert box.y0 >= 0
        assert box.y1 <= made.bbox.y1
    styles = styles_of([("mpt-kl", label) for label in ("mpt-kl", *variants)])
    assert len({(style.colour, style.marker) for style in styles.values()}) == 7
    assert styles["mpt-kl"] == style_of("mpt-kl")
