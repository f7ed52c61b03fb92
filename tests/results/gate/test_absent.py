"""An absent answer is never a class, in any format."""

import gzip
import json

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from results.gate import Layout, compare

ANIMALS = ["cat", "dog", "owl"]


def table(count=30, absent=(), word=None):
    target = [ANIMALS[i % 3] for i in range(count)]
    prediction = [word if i in absent else name for i, name in enumerate(target)]
    return {"id": list(range(count)), "target": target, "prediction": prediction}


def write(path, columns):
    ending = path.suffix
    if ending == ".csv":
        rows = zip(*columns.values(), strict=True)
        lines = [",".join("" if cell is None else str(cell) for cell in row) for row in rows]
        path.write_text("\n".join([",".join(columns), *lines]) + "\n")
    elif ending == ".jsonl":
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif ending == ".json":
        path.write_text(json.dumps(columns))
    elif ending == ".parquet":
        made = pa.table({name: pa.array(values) for name, values in columns.items()})
        for position, name in ((1, "target"), (2, "prediction")):
            made = made.set_column(position, name, made.column(name).dictionary_encode())
        pyarrow.parquet.write_table(made, path)
    else:
        pyarrow.feather.write_feather(pa.table(columns), path)
    return path


@pytest.mark.parametrize("ending", ["csv", "jsonl", "json", "parquet", "feather"])
def test_an_absent_prediction_is_refused_and_its_row_named(tmp_path, ending):
    old = write(tmp_path / f"old.{ending}", table())
    new = write(tmp_path / f"new.{ending}", table(absent=(8, 11)))
    with pytest.raises(ValueError, match=rf"new\.{ending}: row 9: prediction is empty.*2 such rows"):
        compare(old, new)


@pytest.mark.parametrize("ending", ["csv", "jsonl", "json", "parquet", "feather"])
@pytest.mark.parametrize("role", ["target", "id"])
def test_an_absent_target_or_id_is_refused_and_its_row_named(tmp_path, ending, role):
    columns = table()
    columns[role] = [None if i == 4 else value for i, value in enumerate(columns[role])]
    path = write(tmp_path / f"old.{ending}", columns)
    with pytest.raises(ValueError, match=f"row 5: {role} is empty"):
        compare(path, path)


def test_a_null_among_the_values_of_a_dictionary_column_is_absent():
    codes = pa.array([0, 1, 2, 1], pa.int8())
    prediction = pa.DictionaryArray.from_arrays(codes, pa.array(["cat", None, "dog"]))
    made = pa.table({"id": [1, 2, 3, 4], "target": ["cat", "cat", "dog", "dog"], "prediction": prediction})
    with pytest.raises(ValueError, match=r"row 2: prediction is empty.*2 such rows"):
        compare(made, made)


@pytest.mark.parametrize("word", ["nan", "NaN", "<NA>", "None", "null", "N/A"])
def test_a_word_for_an_absent_value_among_numbers_is_no_class(word):
    made = {"id": [1, 2, 3], "target": ["0", "1", "1"], "prediction": ["0", word, "1"]}
    with pytest.raises(ValueError, match=f"row 2: prediction is '{word}', a word for an absent value"):
        compare(made, made)


@pytest.mark.parametrize("word", ["None", "NA"])
def test_a_class_may_be_named_like_an_absent_value_if_samples_have_it_as_their_target(word):
    made = {"id": [1, 2], "target": [word, "cat"], "prediction": [word, word]}
    assert compare(made, made).metrics["er_old"] == 0.5
    made = {"id": [1, 2], "target": ["dog", "cat"], "prediction": [word, "cat"]}
    with pytest.raises(ValueError, match=f"row 1: prediction is '{word}'"):
        compare(made, made)


def test_nan_is_absent_also_in_arrays():
    made = {"id": np.arange(3), "target": np.array([0.0, 1, 2]), "prediction": np.array([0.0, np.nan, 2])}
    with pytest.raises(ValueError, match="row 2: prediction is empty"):
        compare(made, made)


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_header_repeated_in_the_middle_is_no_sample(tmp_path, ending):
    columns = {
        name: [*map(str, values[:20]), name, *map(str, values[20:])] for name, values in table().items()
    }
    path = write(tmp_path / f"old.{ending}", columns)
    with pytest.raises(ValueError, match="row 21 repeats the header"):
        compare(path, path)


def test_an_absent_answer_counts_as_wrong_where_that_is_asked_for():
    new = table(absent=(8, 11))
    report = compare(table(), new, layout=Layout(unanswered="wrong"))
    assert report.metrics["nfr"] == pytest.approx(2 / 30)
    assert report.metrics["churn"] == pytest.approx(2 / 30)
    assert report.samples.new.unanswered == 2
    assert [row["new"] for row in report.flips()] == ["", ""]
    assert "nfr_to_new" not in report.metrics


def test_an_absent_word_about_right_or_wrong_is_refused():
    made = {"id": [1, 2], "correct": [1.0, np.nan]}
    with pytest.raises(
        ValueError, match="row 2: correct is empty; an absent answer is neither right nor wrong"
    ):
        compare(made, made)
    report = compare({"id": [1, 2], "correct": [1, 1]}, made, layout=Layout(unanswered="wrong"))
    assert report.metrics["nfr"] == 0.5


def test_a_confidence_that_fp32_rounded_above_one_is_one(tmp_path):
    path = tmp_path / "old.csv"
    path.write_text("id,target,prediction,confidence\n1,0,0,1.0000001\n2,1,1,0.5\n")
    assert compare(path, path).samples.old.scores["confidence"].tolist() == [1.0, 0.5]


@pytest.mark.parametrize("value", ["1.00001", "93", "-0.1"])
def test_a_confidence_beyond_rounding_is_refused_and_its_row_named(tmp_path, value):
    path = tmp_path / "old.csv"
    path.write_text(f"id,target,prediction,confidence\n1,0,0,0.5\n2,1,1,{value}\n")
    with pytest.raises(ValueError, match=rf"old\.csv: row 2: confidence is {value}; .*must lie in \[0, 1\]"):
        compare(path, path)


@pytest.mark.parametrize(
    ("cells", "complaint"),
    [
        ("1,0,0,\n", "row 1: confidence is empty"),
        ("1,0,0,nan\n", "row 1: confidence is NaN or infinite"),
        ("1,0,0,0.5\n2,1,1,x\n", r"row 2: confidence holds something that is not a number \('x'\)"),
        ('1,0,0,"0,5"\n', "decimal=,"),
    ],
)
def test_a_number_that_is_none_is_refused_by_row_and_column(tmp_path, cells, complaint):
    path = tmp_path / "old.csv.gz"
    path.write_bytes(gzip.compress(f"id,target,prediction,confidence\n{cells}".encode()))
    with pytest.raises(ValueError, match=complaint):
        compare(path, path)


@pytest.mark.parametrize(("target", "prediction"), [([0, 1], ["cat", "dog"]), (["cat", "dog"], ["0", "1"])])
def test_numbers_are_not_compared_with_names(target, prediction):
    made = {"id": [1, 2], "target": target, "prediction": prediction}
    with pytest.raises(ValueError, match="one as numbers, the other as names"):
        compare(made, made)
