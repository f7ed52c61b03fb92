"""`key=value` words: types, lists, hints, and one clear line for every mistake."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from common import cli


@dataclass(frozen=True, kw_only=True)
class Settings:
    names: tuple[str, ...] = ("all",)
    """Names of things."""
    seeds: tuple[int, ...] = (0, 1)
    lr: float | None = None
    """Learning rate."""
    epochs: int = 3
    loader: Literal["auto", "stream"] = "auto"
    runs: Path = Path("runs")
    plan: bool = False

    def __post_init__(self):
        if self.epochs < 1:
            raise ValueError(f"epochs={self.epochs}: must be 1 or more")


def parse(*argv):
    return cli.parse(Settings, argv, prog="python -m x", description="Does things.")


def test_words_become_typed_settings():
    assert parse(
        "names=a,b", "seeds=4", "lr=1e-3", "--epochs=7", "loader=stream", "runs=-r", "plan=true"
    ) == Settings(
        names=("a", "b"), seeds=(4,), lr=1e-3, epochs=7, loader="stream", runs=Path("-r"), plan=True
    )


def test_a_range_of_whole_numbers_has_both_ends():
    assert parse("seeds=0..3,7").seeds == (0, 1, 2, 3, 7)
    assert parse("names=0..3").names == ("0..3",)


@pytest.mark.parametrize("word", ["seeds=3..0", "seeds=0..10000"])
def test_a_range_rises_and_is_of_sensible_length(word):
    with pytest.raises(ValueError, match=r"a range must rise, and by less than 10,000"):
        parse(word)


def test_an_optional_setting_can_be_none():
    assert parse("lr=none").lr is None


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("epoch=3", "unknown setting 'epoch' (did you mean 'epochs'?)"),
        ("epochs=three", "epochs=three: expected a whole number"),
        ("epochs=2.5", "epochs=2.5: expected a whole number"),
        ("lr=fast", "lr=fast: expected a number"),
        ("plan=perhaps", "plan=perhaps: expected true or false"),
        (
            "seeds=1,x",
            "seeds=1,x: expected a comma-separated list (a whole number each, or a range such as 0..9)",
        ),
        ("loader=steam", "loader=steam: expected one of auto, stream (did you mean 'stream'?)"),
        ("lr=", "lr= has no value (expected a number)"),
        ("lr", "'lr' is not of the form key=value (try --help)"),
        ("epochs=0", "epochs=0: must be 1 or more"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(word, message, capsys):
    with pytest.raises(ValueError, match=r".") as error:
        parse(word)

    assert str(error.value) == message
    assert capsys.readouterr() == ("", "")


def test_a_key_given_twice_is_refused():
    with pytest.raises(ValueError, match="lr= is given twice"):
        parse("lr=1", "lr=2")


def test_lists_of_single_settings_make_a_grid_and_lists_of_tuples_do_not():
    combinations = cli.grid(Settings, {"lr": "1,2", "epochs": "3,4", "seeds": "0,1", "runs": "a,b"})

    assert [(c["lr"], c["epochs"]) for c in combinations] == [("1", "3"), ("1", "4"), ("2", "3"), ("2", "4")]
    assert {(c["seeds"], c["runs"]) for c in combinations} == {("0,1", "a,b")}


def test_help_lists_every_setting_with_its_default(capsys):
    with pytest.raises(SystemExit) as end:
        parse("--help")

    assert end.value.code == 0
    shown = capsys.readouterr().out
    for expected in (
        "Does things.",
        "names=all",
        "seeds=0,1",
        "lr=",
        "epochs=3",
        "Learning rate.",
        "plan=false",
    ):
        assert expected in shown


@pytest.mark.parametrize("error", [ValueError("no such\nthing"), FileNotFoundError(2, "gone", "there")])
def test_a_command_turns_a_users_mistake_into_one_line_and_exit_code_2(error, capsys):
    @cli.command
    def main(argv):
        raise error

    assert main([]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert "Errno" not in captured.err


def test_a_command_does_not_hide_a_bug():
    @cli.command
    def main(argv):
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        main([])


@dataclass(frozen=True, kw_only=True)
class Paths:
    """Paths: where things are. More about them."""

    runs: Path = Path("runs")
    """Folder of records."""
    workers: int = 1


@dataclass(frozen=True, kw_only=True)
class Nested:
    """Everything."""

    seeds: tuple[int, ...] = (0,)
    """Seeds."""
    paths: Paths = field(default_factory=Paths)


def test_settings_of_a_section_are_given_by_their_own_names():
    assert cli.build(Nested, {"runs": "x", "seeds": "1"}) == Nested(seeds=(1,), paths=Paths(runs=Path("x")))
    assert list(cli.settings(Nested)) == ["seeds", "runs", "workers"]


def test_a_misspelt_setting_of_a_section_gets_the_nearest_name():
    with pytest.raises(ValueError, match=r"unknown setting 'worker' \(did you mean 'workers'\?\)"):
        cli.build(Nested, {"worker": "2"})


def test_values_of_a_section_make_a_grid_and_one_of_the_whole_sweep_is_refused():
    assert [c["workers"] for c in cli.grid(Nested, {"workers": "1,2"})] == ["1", "2"]
    assert cli.grid(Nested, {"runs": "a,b"}, single=("runs",)) == [{"runs": "a,b"}], "a path may have commas"
    with pytest.raises(ValueError, match="takes one value for the whole sweep"):
        cli.grid(Nested, {"workers": "1,2"}, single=("workers",))


def test_the_help_has_a_table_per_section(capsys):
    cli.print_help(Nested, prog="python -m x", description="Does things.")
    shown = capsys.readouterr().out

    assert shown.index("seeds=0") < shown.index("Paths: where things are") < shown.index("runs=runs")
    assert "Folder of records." in shown
