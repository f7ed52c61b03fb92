import numpy as np
import pandas as pd
import pytest

from results.gate.columns import read_predictions
from results.gate.evaluations import open_evaluation
from results.gate.layout import Layout
from results.gate.pairing import pair_versions
from results.gate.report import metrics_of
from results.gate.sources import TextFormat
from results.metrics import compare
from results.predictions import Predictions

OLD = "id,target,prediction\na,0,0\nb,1,1\nc,0,1\n"
NEW = "id,target,prediction\nd,2,2\nc,0,0\nb,1,2\na,0,0\n"


@pytest.fixture
def file(tmp_path):
    def write(name, text):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def read(path, **layout):
    made = Layout(**layout)
    try:
        return read_predictions(open_evaluation(path, TextFormat(), made), made)
    except ValueError as error:  # as the command names the file
        raise ValueError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from error


def pair(old, new, **layout):
    return pair_versions([old], [new], Layout(**layout))


def update(file, old, new, **layout):
    return pair(read(file("old.csv", old)), read(file("new.csv", new)), **layout)


def texts(labels):
    return [labels.names[code] for code in labels.codes.tolist()]


def test_samples_are_paired_by_id_and_surplus_ones_count_in_the_overall_error_alone(file):
    made = update(file, OLD, NEW)
    metrics = metrics_of(made)
    assert made.classes == ("0", "1", "2")
    assert made.old_classes == 2
    assert (metrics["nfr"], metrics["pfr"]) == (1 / 3, 1 / 3)
    assert (metrics["er_old"], metrics["er_all"]) == (1 / 3, 1 / 4)
    assert metrics["nfr_to_new"] == 1 / 3


FRAME = pd.DataFrame(
    {"index": [3, 1, 2], "target": [0, 1, 0], "prediction": [0, 0, 0], "confidence": [0.5, 0.75, 1.0]}
)


def as_csv(path):
    FRAME.to_csv(path, index=False)


def as_parquet(path):
    FRAME.to_parquet(path)


def as_npz(path):
    np.savez(path, **{name: FRAME[name].to_numpy() for name in FRAME})


@pytest.mark.parametrize(("ending", "write"), [("csv", as_csv), ("parquet", as_parquet), ("npz", as_npz)])
def test_every_format_says_the_same(tmp_path, ending, write):
    path = tmp_path / f"file.{ending}"
    write(path)
    answers = read(path)
    assert answers.ids.to_pylist() == [3, 1, 2]
    assert texts(answers.target) == ["0", "1", "0"]
    assert texts(answers.prediction) == ["0", "0", "0"]
    assert answers.scores["confidence"].tolist() == [0.5, 0.75, 1.0]


def test_formats_may_be_mixed(tmp_path):
    as_csv(tmp_path / "old.csv")
    as_parquet(tmp_path / "new.parquet")
    made = pair(read(tmp_path / "old.csv"), read(tmp_path / "new.parquet"))
    assert metrics_of(made)["churn"] == 0


def test_our_own_files_of_predictions_are_read(tmp_path):
    ours = Predictions.from_logits(index=[5, 4], target=[1, 0], logits=[[0.0, 1.0], [0.0, 2.0]])
    (tmp_path / "predictions-0001.npz").write_bytes(ours.to_bytes())
    answers = read(tmp_path / "predictions-0001.npz")
    made = pair(answers, answers)
    metrics = metrics_of(made)
    assert metrics == compare(ours, ours, old_classes=2)


def test_logits_give_predictions_confidences_and_margins(file):
    logits = "id,target,logit_0,logit_1\na,0,2.0,0.0\nb,1,0.5,1.0\n"
    made = update(file, logits, logits)
    expected = Predictions.from_logits(index=[0, 1], target=[0, 1], logits=[[2.0, 0.0], [0.5, 1.0]])
    assert made.old.prediction.tolist() == [0, 1]
    assert made.old.scores["confidence"] == pytest.approx(expected.confidence)
    assert made.old.scores["margin"].tolist() == [2.0, 0.5]


def test_logits_may_be_lists_in_a_parquet_file(tmp_path):
    frame = pd.DataFrame({"id": ["a", "b"], "target": [0, 1], "logits": [[2.0, 0.0], [0.5, 1.0]]})
    frame.to_parquet(tmp_path / "new.parquet")
    assert read(tmp_path / "new.parquet").logits.tolist() == [[2.0, 0.0], [0.5, 1.0]]


def test_classes_may_have_names_and_the_old_ones_come_first(file):
    made = update(
        file, "id,target,prediction\na,zebra,zebra\n", "id,target,prediction\na,zebra,ant\nb,ant,ant\n"
    )
    assert made.classes == ("zebra", "ant")
    assert made.old_classes == 1


def test_a_class_that_only_looks_like_a_number_is_a_name(file):
    same = "id,target,prediction\na,²,²\nb,10,10\n"
    assert update(file, same, same).classes == ("10", "²")


def test_numbered_classes_are_in_order_of_number(file):
    same = "id,target,prediction\na,10,2\nb,9,9\n"
    assert update(file, same, same).classes == ("2", "9", "10")


@pytest.mark.parametrize("old_classes", [("2",), ("0", "1")])
def test_what_the_old_model_knows_can_be_said(file, old_classes):
    old = OLD + "d,2,0\n"
    made = update(file, old, NEW, old_classes=old_classes)
    assert (len(made), made.old_classes, made.left_out) == (3, 2, 1)


def test_an_old_model_that_was_tested_on_everything_is_compared_on_everything(file):
    made = update(file, OLD + "d,2,0\n", NEW)
    assert (len(made), made.old_classes) == (4, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("id,target,prediction\n", "no sample"),
        ("id,target\na,0\n", "neither a column 'prediction' nor logits"),
        ("name,target,prediction\na,0,0\n", "no column 'id'.*; there are: name, target, prediction"),
        ("id,class,prediction\na,0,0\n", "no column 'target'.*there are: id, class, prediction"),
        ("id,target,target,prediction\na,0,1,0\n", "column 'target' comes twice"),
        ("id,target,prediction\na,0,0\na,0,0\n", "id 'a' comes 2 times"),
        ("id,target,prediction\na,0,0\nb,,0\n", "row 2: target is empty"),
        ("id,target,prediction\na,0,0\nb,1\n", "row 2 has fewer cells than the header"),
        ("id,target,prediction\na,0,0\nb,1,\n", "row 2: prediction is empty"),
        ("id,target,prediction\na,0,0,9\n", "row 1 has more cells than the header"),
        ("id,target,logit_0,logit_1\na,0,nan,1\n", "row 1: logit_0 is NaN or infinite"),
        ("id,target,logit_0,logit_1\na,0,much,1\n", "logit_0 holds something that is not a number"),
        ("id,target,logit_0,logit_2\na,0,1,1\n", "no logit_1"),
        ("id,target,prediction,logit_0,logit_1\na,0,1,5,1\n", "prediction '1' has not the highest score"),
        ("id,target,prediction,logit_0,logit_1\na,0,7,5,1\n", "is none of the 2 columns"),
        ("id,target,prediction,confidence\na,0,1,93\n", "confidence must lie in"),
        (
            "id,target,prediction,confidence,target_confidence\na,0,1,0.2,0.9\n",
            "sample 'a': target_confidence is above confidence",
        ),
        ("id,target,prediction,margin\na,0,1,2\n", "sample 'a': the margin is above 0"),
        ("id,target,prediction,margin\na,0,0,-2\n", "sample 'a': the margin is below 0"),
    ],
)
def test_a_file_that_is_no_predictions_is_refused_by_name(file, text, message):
    path = file("bad.csv", text)
    with pytest.raises(ValueError, match=message) as caught:
        pair(read(path), read(path))
    assert str(path) in str(caught.value)


def test_a_single_number_is_no_column(tmp_path):
    np.savez(tmp_path / "bad.npz", id=[0, 1], target=[0, 1], prediction=[0, 1], confidence=0.5)
    with pytest.raises(ValueError, match="confidence is a single number"):
        read(tmp_path / "bad.npz")


def test_a_name_among_ids_does_not_change_how_the_others_are_read(file):
    old = file("old.csv", "id,target,prediction\n1.0,0,0\n2.0,1,1\n")
    new = file("new.csv", "id,target,prediction\n1,0,0\n2.0,1,1\na.5,2,2\n")
    assert pair(read(old), read(new)).ids.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (OLD + "e,0,0\n", NEW, "new.csv: lacks 1 of the samples in .*old.csv, first 'e'"),
        (OLD, NEW + "f,1,1\n", "lacks sample 'f', whose class '1' the old model knows"),
        (OLD, NEW.replace("c,0,0", "c,1,0"), "sample 'c': its target is '0' in .*old.csv and '1'"),
    ],
)
def test_files_that_contradict_each_other_are_refused(file, old, new, message):
    with pytest.raises(ValueError, match=message):
        update(file, old, new)


@pytest.mark.parametrize(
    ("old_classes", "message"),
    [
        (("1",), "sample 'c' is predicted as '1', which is not an old class"),
        (("zebra",), "of class 'zebra'"),
        (("0",), "no sample is of an old class"),
        (("0", "9"), "of class '9'"),
    ],
)
def test_old_classes_that_cannot_be_are_refused(file, old_classes, message):
    with pytest.raises(ValueError, match=message):
        update(file, OLD, NEW, old_classes=old_classes)


def test_a_number_of_classes_says_nothing_about_names(file):
    named = "id,target,prediction\na,cat,cat\n"
    with pytest.raises(ValueError, match="the classes have names"):
        update(file, named, named, old_classes=("1",))


def test_targets_outside_the_columns_of_logits_are_refused(file):
    logits = "id,target,logit_0,logit_1\na,4,2.0,0.0\n"
    with pytest.raises(ValueError, match="outside the 2 classes"):
        update(file, logits, logits)


@pytest.mark.parametrize("name", ["x.npz", "x.parquet"])
def test_a_file_of_another_format_is_refused(file, name):
    with pytest.raises(ValueError, match=name):
        read(file(name, "no such thing"))


def test_a_pickle_in_an_npz_file_is_never_run(tmp_path):
    np.savez(tmp_path / "evil.npz", id=np.array([{}], object), target=[0], prediction=[0])
    with pytest.raises(ValueError, match=r"evil\.npz"):
        read(tmp_path / "evil.npz")


def test_an_unknown_ending_is_refused(tmp_path):
    (tmp_path / "predictions.xlsx").touch()

    with pytest.raises(ValueError, match=r"must be one of \.csv, .*\.parquet, .*\.npz"):
        read(tmp_path / "predictions.xlsx")


def test_whole_numbers_are_the_same_however_a_file_writes_them(file):
    plain = update(file, OLD, NEW)
    floats = file("float.csv", "id,target,prediction\na,0.0,00.0\nb,1,01\nc,0.,1.0\n")
    made = pair(read(floats), read(file("new.csv", NEW)))
    assert made.classes == plain.classes
    assert metrics_of(made) == metrics_of(plain)


def test_ids_written_as_floats_are_those_written_as_whole_numbers_and_names_keep_their_zeros(file):
    old = "id,target,prediction\n0.0,0,0\n1.0,1,1\n"
    made = update(file, old, "id,target,prediction\n1,1,1\n0,0,0\n")
    assert made.ids.to_pylist() == [0, 1]
    names = read(file("names.csv", "id,target,prediction\n007,0,0\nv1.0,1,1\n"))
    assert names.ids.to_pylist() == ["007", "v1.0"]


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [
        ({"id": [0], "target": [0], "prediction": [-1]}, "row 1: prediction is -1, classes count from 0"),
        ({"id": [0], "target": [-2.0], "prediction": [0]}, "row 1: target is -2, classes count from 0"),
        (
            {"id": [0], "index": [0], "target": [0], "prediction": [0]},
            "'id' and 'index' could both be the id: say which, as columns.id=id",
        ),
        ({"id": [1e300], "target": [0], "prediction": [0]}, "too large to be told apart"),
        (
            {"id": [0], "target": [0], "prediction": [0], "confidence": [[0.5]]},
            "confidence has lists in its cells",
        ),
        ({"id": [0], "target": [0], "logits": [[1.0]]}, "of 1 classes, wanted two or more"),
        ({"id": [0], "target": [0], "logits": [[1j, 2j]]}, "logits holds complex numbers"),
        ({"id": [0], "target": [0], "logit_0": [1.0], "logit_00": [2.0]}, "the same number"),
    ],
)
def test_what_is_no_sensible_column_is_refused_by_name(tmp_path, columns, complaint):
    path = tmp_path / "file.npz"
    np.savez(path, **{name: np.array(values) for name, values in columns.items()})
    with pytest.raises(ValueError, match=f"file.npz: .*{complaint}"):
        read(path)


def test_lists_are_no_ids(tmp_path):
    path = tmp_path / "file.parquet"
    pd.DataFrame({"id": [[1], [2]], "target": [0, 1], "prediction": [0, 1]}).to_parquet(path)
    with pytest.raises(ValueError, match="row 1: id must be a whole number or a name"):
        read(path)


def test_a_damaged_archive_is_refused_wherever_the_damage_is(tmp_path):
    path = tmp_path / "file.npz"
    random = np.random.default_rng(0)
    columns = {name: random.integers(0, 5, 300) for name in ("target", "prediction")}
    np.savez_compressed(path, id=np.arange(300), **columns)
    whole = path.read_bytes()
    for place in range(0, len(whole), 13):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        complaint = complaint_of(path)  # some bytes, such as a date, mean nothing
        assert not complaint or complaint.startswith(f"{path}: ")
    np.save(tmp_path / "single.npy", np.arange(3))
    (tmp_path / "single.npy").rename(path)
    assert complaint_of(path) == f"{path}: not an NPZ file of plain arrays"


def complaint_of(path):
    try:
        read(path)
    except ValueError as error:
        return str(error)
    return ""
