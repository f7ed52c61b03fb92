"""Which column means what: by what the layout says, and by the usual names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from results.gate.layout import IDENTITY, OWN_NAMES, USUAL_NAMES, Condition, Layout, Role, condition, plain
from results.gate.sources import there_are

_LOGIT = re.compile(r"logits?_(\d+)", re.IGNORECASE)
_PROBABILITY = re.compile(r"(?:p|prob|proba|probs|probability)_(\d+)", re.IGNORECASE)
_NAMED = re.compile(r"(prob|proba|probability)_(.+)", re.IGNORECASE)
_MEANING = {"right": "column that says right or wrong"}


@dataclass(frozen=True, slots=True)
class ColumnFinder:
    """Finds columns among `names` under a layout; what it raises says which columns there are."""

    names: tuple[str, ...]
    layout: Layout

    def find(self, role: Role, *, must_be: bool = True) -> str | None:
        """The column of a role: the one said, else the one that has a usual name.

        What is said is meant for the versions' files; a third file may have names of its own, and is asked
        with `must_be=False`.

        Raises:
            ValueError: a column that there is not, or several with usual names.
        """
        said = self.layout.columns.get(role)
        taken = set(self.layout.columns.values()) if must_be else set()
        if said is not None and (must_be or said in self.names):
            if said not in self.names:
                raise ValueError(f"columns.{role}={said}: no such column; {there_are(self.names)}")
            return said
        for usual in (OWN_NAMES[role], USUAL_NAMES.get(role, ())):
            found = [name for name in self.names if plain(name) in usual and name not in taken]
            if len(found) > 1:
                shown = " and ".join(f"'{name}'" for name in found)
                hint = f"right={found[0]}" if role == "right" else f"columns.{role}={found[0]}"
                raise ValueError(
                    f"{shown} could both be the {_MEANING.get(role, role)}: say which, as {hint}"
                )
            if found:
                return found[0]
        return None

    def asked_for_right(self) -> bool:
        """Whether the layout says that a column says right or wrong."""
        return bool(self.layout.right) or "right" in self.layout.columns

    def right_column(self, names: dict[Role, str | None]) -> Condition | str | None:
        """The column that says right or wrong, or a bound for one; what is said wins over a usual name.

        Raises:
            ValueError: a column that there is not.
        """
        said = self.layout.right or self.layout.columns.get("right", "")
        if not said:
            return names["right"]
        names["right"] = None
        if said in self.names:
            return said
        made = condition(said)
        wanted = made.column if made else said
        if wanted not in self.names:
            raise ValueError(f"right={said}: no column '{wanted}'; {there_are(self.names)}")
        return made

    def identity(self) -> list[str]:
        """Columns that say which question a sample asks.

        Raises:
            ValueError: a column that there is not.
        """
        same = self.layout.same
        if same == "none":
            return []
        if same:
            if same not in self.names:
                raise ValueError(f"same={same}: no such column; {there_are(self.names)}")
            return [same]
        return [name for name in self.names if name in IDENTITY]

    def nothing_to_judge(self, names: Mapping[Role, str | None]) -> str:
        """The complaint about a file without any answer."""
        if names["target"]:
            pipeline = plain(names["target"]) == "label" and "score" in map(plain, self.names)
            hint = (
                f"; if '{names['target']}' holds predictions, as a Hugging Face pipeline writes them, say "
                f"columns.prediction={names['target']}"
                if pipeline
                else ""
            )
            return (
                "neither a column 'prediction' nor logits, probabilities or one that says right or wrong; "
                f"{there_are(self.names)}{hint}"
            )
        return (
            f"no column 'prediction' and none that says right or wrong; {there_are(self.names)} "
            "(say which: columns.prediction= or right=)"
        )

    def where(self) -> Condition | None:
        """Which rows to take; None for all.

        Raises:
            ValueError: no comparison, or one with a column that there is not.
        """
        if not self.layout.where:
            return None
        made = condition(self.layout.where)
        if made is None:
            raise ValueError(f"where={self.layout.where}: expected a comparison such as filter==strict-match")
        if made.column not in self.names:
            raise ValueError(f"where={self.layout.where}: no column '{made.column}'; {there_are(self.names)}")
        return made

    def score_columns(self, names: dict[Role, str | None]) -> tuple[dict[str, str], dict[str, str]]:
        """Columns of logits and of probabilities by class, or one column of lists under an empty name."""
        logits = {"": names["logits"]} if names["logits"] else _numbered(self.names, _LOGIT, "logit_")
        probabilities = (
            {"": names["probabilities"]} if names["probabilities"] else self._named_probabilities()
        )
        if not logits and not probabilities and "scores" in self.names:
            probabilities = {"": "scores"}
        if logits and probabilities:
            probabilities = {}  # logits say all that probabilities do
        return logits, probabilities

    def _named_probabilities(self) -> dict[str, str]:
        numbered = _numbered(self.names, _PROBABILITY, "p_")
        if numbered:
            return numbered
        found = {match[2]: name for name in self.names if (match := _NAMED.fullmatch(name))}
        return found if len(found) > 1 else {}


def _numbered(names: Sequence[str], pattern: re.Pattern[str], stem: str) -> dict[str, str]:
    """`logit_0`, `logit_1`, ... by number, in order.

    Raises:
        ValueError: a number that is missing or comes twice.
    """
    found = {int(match[1]): name for name in names if (match := pattern.fullmatch(name))}
    if len(found) < sum(pattern.fullmatch(name) is not None for name in names):
        raise ValueError(f"two columns such as {stem}0 have the same number")
    if len(found) < 2:
        return {}
    gap = next((number for number in range(len(found)) if number not in found), None)
    if gap is not None:
        raise ValueError(f"there are {len(found)} columns such as {stem}0, but no {stem}{gap}")
    return {str(number): found[number] for number in sorted(found)}
