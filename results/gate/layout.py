"""How a file of predictions is laid out: which column means what, and how rows are paired."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Role = Literal[
    "id",
    "target",
    "prediction",
    "right",
    "run",
    "confidence",
    "target_confidence",
    "margin",
    "logits",
    "probabilities",
]

# Names in lower case and with underscores. Where one of our own is there, it wins over the usual ones; where
# two usual ones are there, the user has to choose. The empty name is that of the index that pandas writes.
OWN_NAMES: Mapping[Role, tuple[str, ...]] = {
    "id": ("id", "index"),
    "target": ("target",),
    "prediction": ("prediction",),
    "right": ("right", "correct"),
    "run": ("run",),
    "confidence": ("confidence",),
    "target_confidence": ("target_confidence",),
    "margin": ("margin",),
    "logits": ("logits",),
    "probabilities": ("probabilities",),
}
USUAL_NAMES: Mapping[Role, tuple[str, ...]] = {
    "id": (
        "sample_id", "example_id", "doc_id", "question_id", "image_id", "uid", "guid", "idx", "key",
        "path", "file", "filename", "file_name", "image", "image_path", "unnamed:_0", "",
    ),
    "target": (
        "y_true", "label", "labels", "true", "true_label", "gold", "gold_label", "ground_truth", "truth",
        "y", "y_test", "expected", "reference", "target_label",
    ),
    "prediction": (
        "y_pred", "pred", "preds", "predictions", "predicted", "predicted_label", "pred_label", "y_hat",
        "predicted_class", "output",
    ),
    "right": ("is_correct", "acc", "exact_match", "passed", "pass", "is_right", "success"),
    "logits": ("logit",),
    "probabilities": ("probs", "prob", "probas", "y_prob", "y_proba", "y_score"),
}  # fmt: skip
IDENTITY = ("doc_hash", "input_hash", "question_hash", "input", "question", "prompt_hash", "prompt")
"""Columns that say which question a sample asks; the first that both files have is checked."""
_CONDITION = re.compile(r"\s*(.+?)\s*(>=|<=|==|>|<)\s*(\S+)\s*")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where the answers are in the files, and how two files are paired."""

    columns: Mapping[str, str] = field(default_factory=dict)
    """Role to column name, where the usual names do not say it."""
    right: str = ""
    """A column that says right or wrong, or a comparison such as `score>=0.5`."""
    where: str = ""
    """Only rows in which a column has one value: `filter==strict-match`."""
    pair: Literal["id", "order", "common"] = "id"
    """By id; by the order of the rows; or by id, only those samples that both files have."""
    same: str = ""
    """A column that must agree between paired samples; `none` for no such check."""
    old_classes: tuple[str, ...] = ()
    """What the old model knows: a number of classes, or their names."""
    class_names: tuple[str, ...] = ()
    """Names of the columns of a matrix of scores, in order."""
    top_k: int = 1
    """A sample is right where its target is among the k highest scores."""
    unanswered: Literal["refuse", "wrong"] = "refuse"
    """What an empty prediction is: an error in the file, or a wrong answer."""
    weight: str = ""
    """Column of the samples' weights."""
    sep: str = ""
    """What separates the cells of a CSV file; found by itself where empty."""
    encoding: str = ""
    """Of text files; by the byte order mark, else UTF-8, where empty."""
    decimal: str = "."
    """The decimal mark of numbers in text files."""

    def __post_init__(self) -> None:
        for role in self.columns:
            if role not in OWN_NAMES:
                raise ValueError(f"columns.{role}: the roles are {', '.join(OWN_NAMES)}")
        if self.top_k < 1:
            raise ValueError(f"top_k={self.top_k}: must be 1 or more")
        if self.right and "right" in self.columns:
            raise ValueError("right= and columns.right= mean the same: leave one out")


@dataclass(frozen=True, kw_only=True)
class Condition:
    """`score>=0.5`: the rows of a column that satisfy a comparison with a number or a text."""

    column: str
    operator: str
    value: str


def condition(text: str) -> Condition | None:
    """The parts of `COLUMN OPERATOR VALUE`; None where `text` is not a comparison."""
    match = _CONDITION.fullmatch(text)
    return Condition(column=match[1], operator=match[2], value=match[3]) if match else None


def plain(name: str) -> str:
    """A column's name as the lists above write it: `True Label` -> `true_label`."""
    return re.sub(r"[\s-]+", "_", name.strip().lower())
