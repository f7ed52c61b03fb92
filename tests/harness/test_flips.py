"""`flips` and its subcommands."""

import importlib
import subprocess
import sys

import pytest

from harness import flips


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["help"]])
def test_the_help_lists_every_subcommand_with_a_line(words, capsys):
    assert flips.main(words) == 0

    lines = capsys.readouterr().out.splitlines()
    for name, subcommand in flips.SUBCOMMANDS.items():
        assert any(line.split() == [name, *subcommand.summary.split()] for line in lines), name


def test_the_help_is_shown_as_a_mistake_where_no_command_is_given(capsys):
    assert flips.main([]) == 2
    assert "usage: flips COMMAND" in capsys.readouterr().out


def test_an_unknown_subcommand_is_one_line_with_the_nearest_name(capsys):
    assert flips.main(["comapre", "old=a.csv"]) == 2

    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "error: unknown command 'comapre' (did you mean 'compare'?)\n")


@pytest.mark.parametrize("name", flips.SUBCOMMANDS)
def test_a_subcommands_help_names_it_as_it_was_called(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/flips", name, "--help"])

    try:
        code = flips.main([name, "--help"])
    except SystemExit as end:  # `cli.parse` ends the process, as argparse does
        code = end.code

    text = capsys.readouterr().out
    assert code == 0
    assert text.startswith(f"usage: flips {name} ")
    assert "python -m" not in text


def test_a_subcommand_gets_its_words_and_gives_back_its_exit_code(tmp_path, capsys):
    assert flips.main(["store", "verify", f"runs={tmp_path}"]) == 0
    assert f"{tmp_path}: 0 intact runs" in capsys.readouterr().out
    assert flips.main(["store", "verify", f"runs={tmp_path / 'none'}"]) == 2


def test_listing_the_subcommands_imports_none_of_them():
    code = (
        "import sys; from harness import flips; flips.main(['--help']);"
        "print(sorted({'numpy', 'torch', 'results', 'slurm', 'loaders'} & set(sys.modules)), file=sys.stderr)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stderr == "[]\n"


@pytest.mark.parametrize(("missing", "package"), [("numba", "numba"), ("sklearn.datasets", "scikit-learn")])
def test_a_missing_package_of_the_train_extra_is_one_line(missing, package, monkeypatch, capsys):
    def absent(name):
        raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    monkeypatch.setattr(importlib, "import_module", absent)

    assert flips.main(["build"]) == 2
    assert f"({package} not installed): pip install 'negative-flips[train]'" in capsys.readouterr().err


def test_another_missing_module_is_a_fault_of_ours(monkeypatch):
    def absent(name):
        raise ModuleNotFoundError("No module named 'results.gone'", name="results.gone")

    monkeypatch.setattr(importlib, "import_module", absent)

    with pytest.raises(ModuleNotFoundError, match=r"results\.gone"):
        flips.main(["compare"])
