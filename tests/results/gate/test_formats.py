"""Any file: formats, separators, encodings, compressions, names of columns and kinds of scores."""

import gzip
import io
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.ipc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from results.gate import Layout, Policy, compare

COLUMNS = ("id", "target", "prediction", "confidence", "country")


def frame(seed, accuracy):
    target = np.random.default_rng(0).integers(0, 4, 120)
    random = np.random.default_rng(seed)
    prediction = np.where(random.random(120) < accuracy, target, (target + 1) % 4)
    names = np.array(["cat", "dög", "owl, barn", "7"])
    return pd.DataFrame(
        {
            "id": [f"img {i:03d}" for i in range(120)],
            "target": names[target],
            "prediction": names[prediction],
            "confidence": random.random(120).round(3),
            "country": np.array(["DE", "Côte"])[np.arange(120) % 2],
        }
    )


OLD, NEW = frame(1, 0.9), frame(2, 0.92)
POLICY = Policy(max_nfr=0.05, slices=("country",), max_slice_nfr=0.3)


def text(made, sep, encoding):
    return made.to_csv(index=False, sep=sep).encode(encoding)


def as_arrow_stream(made):
    buffer = io.BytesIO()
    with pa.ipc.new_stream(buffer, pa.Table.from_pandas(made).schema) as writer:
        writer.write_table(pa.Table.from_pandas(made))
    return buffer.getvalue()


def as_feather(made):
    buffer = io.BytesIO()
    pyarrow.feather.write_feather(made, buffer)
    return buffer.getvalue()


def as_parquet(made):
    buffer = io.BytesIO()
    made.astype({"target": "category", "country": "category"}).to_parquet(buffer)
    return buffer.getvalue()


def as_npz(made):
    buffer = io.BytesIO()
    np.savez(buffer, **{name: made[name].to_numpy(str if name != "confidence" else float) for name in made})
    return buffer.getvalue()


def as_npy(made):
    buffer = io.BytesIO()
    np.save(buffer, made.astype({n: str for n in made if n != "confidence"}).to_records(
        index=False, column_dtypes=dict.fromkeys([n for n in made if n != "confidence"], "U12")))  # fmt: skip
    return buffer.getvalue()


WRITERS = {
    "comma.csv": lambda made: text(made, ",", "utf-8"),
    "semicolon.csv": lambda made: text(made, ";", "utf-8"),
    "wide.jsonl": lambda made: made.to_json(orient="records", lines=True, force_ascii=False).encode("utf-16"),
    "marked.json": lambda made: made.to_json(orient="records", force_ascii=False).encode("utf-8-sig"),
    "pipe.csv": lambda made: text(made, "|", "utf-8-sig"),
    "tab.tsv": lambda made: text(made, "\t", "utf-8"),
    "tab.txt": lambda made: text(made, "\t", "utf-16"),
    "dos.csv": lambda made: text(made, ",", "utf-8").replace(b"\n", b"\r\n"),
    "lines.jsonl": lambda made: made.to_json(orient="records", lines=True).encode(),
    "records.json": lambda made: made.to_json(orient="records").encode(),
    "lists.json": lambda made: json.dumps(made.to_dict(orient="list")).encode(),
    "table.parquet": as_parquet,
    "table.feather": as_feather,
    "stream.arrow": as_arrow_stream,
    "arrays.npz": as_npz,
    "records.npy": as_npy,
}
COMPRESSIONS = {
    "": lambda data: data,
    ".gz": gzip.compress,
    ".zst": lambda data: pa.compress(data, "zstd", asbytes=True),
}


def numbers(report):
    """All that must not depend on how the files are written."""
    return (
        report.metrics,
        report.checks,
        report.classes,
        report.slices,
        report.flips(),
        report.error_increase,
    )


def write(folder, made, name, compression=""):
    path = folder / f"{name}{compression}"
    data = WRITERS[name](made)
    if compression == ".zst":  # a frame that says its own length, as the zstd tool writes it
        with pa.CompressedOutputStream(str(path), "zstd") as stream:
            stream.write(data)
    else:
        path.write_bytes(COMPRESSIONS[compression](data))
    return path


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_numbers(tmp_path, name, compression):
    report = compare(write(tmp_path, OLD, name, compression), NEW, policy=POLICY)
    assert numbers(report) == numbers(compare(OLD, NEW, policy=POLICY))


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_order_of_rows_and_columns_format_and_compression_change_no_number(tmp_path, data):
    def mixed(made, version):
        rows = data.draw(st.permutations(range(len(made))))
        columns = data.draw(st.permutations(list(made)))
        name, compression = (
            data.draw(st.sampled_from(sorted(WRITERS))),
            data.draw(st.sampled_from(["", ".gz"])),
        )
        folder = tmp_path / version
        folder.mkdir(exist_ok=True)
        return write(folder, made.iloc[rows][columns].reset_index(drop=True), name, compression)

    report = compare(mixed(OLD, "old"), mixed(NEW, "new"), policy=POLICY)
    assert numbers(report) == numbers(compare(OLD, NEW, policy=POLICY))


def test_latin_1_is_read_where_it_is_said_and_suggested_where_it_is_not(tmp_path):
    path = tmp_path / "old.csv"
    path.write_bytes(text(OLD, ";", "latin-1"))
    with pytest.raises(ValueError, match=r"old\.csv: not text in .*try encoding=latin-1"):
        compare(path, NEW)
    report = compare(path, NEW, layout=Layout(encoding="latin-1"), policy=POLICY)
    assert numbers(report) == numbers(compare(OLD, NEW, policy=POLICY))


def test_a_separator_can_be_said_and_an_unclear_one_is_asked_for(tmp_path):
    path = tmp_path / "old.csv"
    path.write_text("id,target;prediction,x\n1,0;0,5\n")
    layout = Layout(
        sep=";", columns={"id": "id,target", "target": "prediction,x", "prediction": "prediction,x"}
    )
    assert compare(path, path, layout=layout).metrics["nfr"] == 0
    path.write_text("id,a;target,b;prediction\n1,0;0,5;1\n")
    with pytest.raises(ValueError, match=r"separated by ',' or ';': say which with sep="):
        compare(path, path)


def test_a_decimal_comma_is_read_where_it_is_said(tmp_path):
    path = tmp_path / "old.csv"
    path.write_text("id;target;prediction;confidence\n1;0;0;0,75\n")
    with pytest.raises(ValueError, match=r"row 1: confidence holds .*'0,75'.*decimal=,"):
        compare(path, path)
    report = compare(path, path, layout=Layout(decimal=","))
    assert report.samples.old.scores["confidence"].tolist() == [0.75]


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_a_file_that_is_not_compressed_as_it_says_is_refused(tmp_path, ending):
    path = tmp_path / f"old.csv{ending}"
    path.write_text("id,target,prediction\n1,0,0\n")
    with pytest.raises(ValueError, match=r"not a (gzip|zstd) file, or damaged"):
        compare(path, path)


@pytest.mark.parametrize(
    ("id_name", "target", "prediction"),
    [
        ("sample_id", "y_true", "y_pred"),
        ("Path", "Label", "Predicted"),
        ("FILENAME", "true label", "pred"),
        ("doc_id", "gold", "output"),
        ("index", "labels", "preds"),
    ],
)
def test_columns_are_found_by_their_usual_names(id_name, target, prediction):
    renamed = [
        made.rename(columns={"id": id_name, "target": target, "prediction": prediction})
        for made in (OLD, NEW)
    ]
    assert numbers(compare(*renamed, policy=POLICY)) == numbers(compare(OLD, NEW, policy=POLICY))


def test_columns_can_be_named():
    renamed = [made.rename(columns={"id": "a", "target": "b", "prediction": "c"}) for made in (OLD, NEW)]
    layout = Layout(columns={"id": "a", "target": "b", "prediction": "c"})
    assert numbers(compare(*renamed, layout=layout)) == numbers(compare(OLD, NEW))
    with pytest.raises(ValueError, match=r"old: columns.id=d: no such column; there are: a, b, c"):
        compare(*renamed, layout=Layout(columns={"id": "d"}))


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        (
            ["id", "y_true", "gold", "pred"],
            "'y_true' and 'gold' could both be the target: say which, as columns.ta",
        ),
        (["id", "target", "pred", "output"], "'pred' and 'output' could both be the prediction"),
        (["uid", "path", "target", "pred"], "'uid' and 'path' could both be the id"),
        (["id", "acc", "passed"], "'acc' and 'passed' could both be the column that says right or wrong"),
        (["id", "label", "score"], "as a Hugging Face pipeline writes them, say columns.prediction=label"),
        (["id", "target"], "neither a column 'prediction' nor .*there are: id, target"),
    ],
)
def test_where_two_columns_could_be_meant_one_line_asks(names, complaint):
    made = {name: [1] for name in names}
    with pytest.raises(ValueError, match=complaint):
        compare(made, made)


def test_our_own_names_win_over_usual_ones():
    made = {"id": [1, 2], "path": ["a", "b"], "target": [0, 1], "label": [1, 1], "prediction": [0, 0]}
    assert compare(made, made).metrics["er_old"] == 0.5


def test_rows_without_ids_are_paired_by_order_only_where_that_is_asked_for():
    old, new = ({"y_true": [0, 1, 2], "y_pred": predicted} for predicted in ([0, 1, 2], [0, 2, 2]))
    with pytest.raises(ValueError, match=r"no column 'id'.*pair=order"):
        compare(old, new)
    assert compare(old, new, layout=Layout(pair="order")).metrics["nfr"] == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match=r"old has 3 rows and new 2"):
        compare(old, {"y_true": [0, 1], "y_pred": [0, 1]}, layout=Layout(pair="order"))
    with pytest.raises(ValueError, match=r"its target is '2' in old and '1' in new"):
        compare(old, {"y_true": [0, 1, 1], "y_pred": [0, 1, 1]}, layout=Layout(pair="order"))


def test_only_the_samples_that_both_have_where_that_is_asked_for():
    old = {"id": [1, 2, 3], "target": [0, 1, 0], "prediction": [0, 1, 0]}
    new = {"id": [4, 3, 2], "target": [0, 0, 1], "prediction": [1, 1, 1]}
    report = compare(old, new, layout=Layout(pair="common"))
    assert (len(report.samples), report.samples.left_out) == (2, 2)
    assert report.metrics["nfr"] == 0.5


def test_targets_may_come_from_a_third_file(tmp_path):
    path = tmp_path / "truth.csv"
    OLD[["id", "target"]].iloc[::-1].rename(columns={"target": "label"}).to_csv(path, index=False)
    old, new = (made.drop(columns="target") for made in (OLD, NEW))
    assert numbers(compare(old, new, targets=path)) == numbers(compare(OLD, NEW))
    with pytest.raises(ValueError, match=r"no column 'target'.*targets="):
        compare(old, new)
    OLD[["id", "target"]].iloc[:-1].to_csv(path, index=False)
    with pytest.raises(ValueError, match=r"truth\.csv: lacks sample 'img 119' of old"):
        compare(old, new, targets=path)


def test_predictions_of_a_hugging_face_trainer_are_read(tmp_path):
    """`run_glue.py --do_predict` writes `index<TAB>prediction`, without targets."""
    for name, made in (("old", OLD), ("new", NEW)):
        lines = [f"{i}\t{p}" for i, p in enumerate(made["prediction"])]
        (tmp_path / f"{name}.txt").write_text("\n".join(["index\tprediction", *lines]) + "\n")
    targets = {"idx": range(120), "label": OLD["target"].to_numpy()}
    report = compare(tmp_path / "old.txt", tmp_path / "new.txt", targets=targets)
    assert report.metrics["nfr"] == compare(OLD, NEW).metrics["nfr"]


SCORES = np.array([[0.7, 0.2, 0.1], [0.1, 0.5, 0.4], [0.2, 0.3, 0.5], [0.5, 0.4, 0.1]])
TARGET = np.array([0, 2, 2, 1])


def score_columns(stem, scores=SCORES, names=range(3)):
    columns = {f"{stem}_{name}": scores[:, i] for i, name in enumerate(names)}
    return {"id": np.arange(4), "target": TARGET, **columns}


@pytest.mark.parametrize(
    "made",
    [
        score_columns("p"),
        score_columns("prob"),
        score_columns("logit", np.log(SCORES)),
        {"id": np.arange(4), "target": TARGET, "probabilities": SCORES},
        {"id": np.arange(4), "target": TARGET, "probs": list(SCORES)},
        {"id": np.arange(4), "target": TARGET, "logits": np.log(SCORES)},
    ],
    ids=["p_0", "prob_0", "logit_0", "matrix", "lists", "matrix of logits"],
)
def test_predictions_and_confidences_come_from_scores(made):
    report = compare(made, made)
    assert report.metrics["er_old"] == 0.5
    assert report.samples.old.scores["confidence"] == pytest.approx([0.7, 0.5, 0.5, 0.5])
    assert report.samples.old.scores["target_confidence"] == pytest.approx([0.7, 0.4, 0.5, 0.4])


def test_columns_of_probabilities_may_name_their_classes():
    made = score_columns("prob", names=["cat", "dog", "owl"])
    made["target"] = np.array(["cat", "dog", "owl"])[TARGET]
    report = compare(made, made)
    assert report.metrics["er_old"] == 0.5
    assert report.samples.classes == ("cat", "dog", "owl")


def test_scikit_learn_s_arrays_are_read(tmp_path):
    """`predict_proba` gives a matrix whose columns are `classes_`; the ids are the rows' order."""
    np.savez(
        tmp_path / "old.npz",
        y_true=np.array(["cat", "dog", "owl"])[TARGET],
        y_proba=SCORES,
        classes_=np.array(["cat", "dog", "owl"]),
    )
    report = compare(tmp_path / "old.npz", tmp_path / "old.npz", layout=Layout(pair="order"))
    assert report.metrics["er_old"] == 0.5


@pytest.mark.parametrize("scores", [SCORES, np.log(SCORES), SCORES.argmax(axis=1)])
def test_one_array_per_file_is_predictions_or_scores(tmp_path, scores):
    np.save(tmp_path / "old.npy", scores)
    np.save(tmp_path / "truth.npy", TARGET)
    layout = Layout(pair="order")
    report = compare(
        tmp_path / "old.npy", tmp_path / "old.npy", targets=tmp_path / "truth.npy", layout=layout
    )
    assert report.metrics["er_old"] == 0.5
    assert compare(scores, scores, targets=TARGET, layout=layout).metrics == report.metrics


def test_right_may_mean_among_the_k_highest_scores():
    made = score_columns("p")
    assert compare(made, made, layout=Layout(top_k=2)).metrics["er_old"] == 0
    worse = score_columns("p", SCORES[:, ::-1])
    report = compare(made, worse, layout=Layout(top_k=2))
    assert report.metrics["nfr"] == 0.75, "only the last sample's target has not the lowest score"
    with pytest.raises(ValueError, match=r"top_k=3 of 3 classes is always right"):
        compare(made, made, layout=Layout(top_k=3))
    with pytest.raises(ValueError, match=r"top_k=2 needs logits or probabilities"):
        compare(OLD, NEW, layout=Layout(top_k=2))


def test_a_third_file_may_hold_slices_and_weights():
    metadata = pd.DataFrame({"id": OLD["id"], "area": ["north", "south"] * 60, "w": [1.0, 3.0] * 60})
    report = compare(
        OLD, NEW, metadata=metadata.iloc[::-1], layout=Layout(weight="w"), policy=Policy(slices=("area",))
    )
    assert {row.value for row in report.slices} == {"north", "south"}
    north, south = sorted(report.slices, key=lambda row: row.value)
    assert report.metrics["nfr"] == pytest.approx((north.nfr + 3 * south.nfr) / 4)


def test_both_versions_may_be_in_one_table():
    made = {"id": [1, 2, 3], "label": [0, 1, 1], "v1": [0, 1, 1], "v2": [0, 1, 0]}
    report = compare(made, made, old_columns={"prediction": "v1"}, new_columns={"prediction": "v2"})
    assert report.metrics["nfr"] == pytest.approx(1 / 3)


def test_the_index_that_pandas_writes_names_the_samples(tmp_path):
    OLD.drop(columns="id").to_csv(tmp_path / "old.csv")
    report = compare(tmp_path / "old.csv", NEW.drop(columns="id").reset_index())
    assert report.metrics == compare(OLD, NEW).metrics


def test_a_third_file_may_call_its_ids_otherwise():
    old, new = (made.rename(columns={"id": "name"}).drop(columns="target") for made in (OLD, NEW))
    targets = OLD[["id", "target"]]
    assert compare(old, new, targets=targets, layout=Layout(columns={"id": "name"})).metrics["nfr"] > 0


def test_rows_are_not_paired_by_order_where_their_ids_say_otherwise():
    with pytest.raises(ValueError, match="row 1 is sample 'img 000' in old and 'img 119' in new"):
        compare(OLD, NEW.iloc[::-1], layout=Layout(pair="order"))


@pytest.mark.parametrize("kind", [pa.uint64(), pa.int8(), pa.large_string(), pa.string_view(), pa.float64()])
def test_ids_and_classes_of_any_type_are_read(kind):
    values = [str(i) if pa.types.is_large_string(kind) or kind == pa.string_view() else i for i in range(5)]
    made = pa.table({name: pa.array(values, kind) for name in ("id", "target", "prediction")})
    plain = {name: list(range(5)) for name in ("id", "target", "prediction")}
    assert compare(made, plain).metrics["churn"] == 0


def test_predictions_of_a_hugging_face_pipeline_are_read_where_their_column_is_said(tmp_path):
    """A text classification pipeline gives a label and a score for each text, in their order."""
    said = [{"label": str(p), "score": 0.9} for p in OLD["prediction"]]
    (tmp_path / "old.json").write_text(json.dumps(said))
    layout = Layout(pair="order", columns={"prediction": "label"})
    targets = {"label": OLD["target"].to_numpy(str)}
    report = compare(tmp_path / "old.json", tmp_path / "old.json", targets=targets, layout=layout)
    assert report.metrics["er_old"] == compare(OLD, OLD).metrics["er_old"]
