"""What is asked of a cluster."""

from pathlib import Path

import pytest

from common.jobs import Resources
from slurm import profile, submit
from slurm.ledger import Array, Ledger
from slurm.profile import Profile, SlurmOptions
from slurm.snapshot import Snapshot

CODE = Snapshot(path="/code", commit="abc")
ROLES, ARCHS = ("old", "reference", "candidate"), ("resnet8", "resnet18", "resnet50")
EXAMPLE = Path(__file__).parent.parent.parent / "docs" / "profiles" / "mycluster.toml"


def load(name, overrides):
    return profile.load(name, overrides, roles=ROLES, archs=ARCHS)


def request_of(made, job, **changes):
    return made.request(job.resources, role="candidate", arch="resnet8", **changes)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty current folder and configuration folder; gives back where profiles go."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    folder = tmp_path / "config" / "negative-flips" / "profiles"
    folder.mkdir(parents=True)
    return folder


def write(home, text):
    (home / "mine.toml").write_text(text)
    return load("mine", {})


def test_the_plan_decides_where_nobody_says_anything(bench):
    job = bench.job("job", resources=Resources(cpus=3, gpus=1, memory_gb=7.5, minutes=42, nodes=2))
    request = request_of(Profile(), job)
    assert (request.cpus, request.gpus, request.memory_gb, request.minutes, request.nodes) == (
        3,
        1,
        7.5,
        42,
        2,
    )


def test_architecture_beats_role_beats_common_and_the_command_line_beats_all(bench, home):
    (home / "mine.toml").write_text(
        """
        partition = "common"
        qos = "common"
        account = "common"
        cpus = 1
        [role.candidate]
        qos = "role"
        account = "role"
        cpus = 2
        [arch.resnet8]
        account = "arch"
        cpus = 3
        [arch.resnet50]
        partition = "large"
        """
    )
    request = request_of(load("mine", {"cpus": "4"}), bench.job("job"))
    assert (request.partition, request.qos, request.account, request.cpus) == ("common", "role", "arch", 4)


def test_the_project_s_profile_hides_the_user_s(home, tmp_path):
    (home / "mine.toml").write_text('partition = "user"')
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "mine.toml").write_text('partition = "project"')
    assert load("mine", {}).common.partition == "project"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('partiton = "x"', r"unknown key 'partiton' \(did you mean 'partition'\?\)"),
        ('[role.old]\ncpu = "x"', r"unknown key 'role.old.cpu' \(did you mean"),
        ('cpus = "many"', "cpus=many: expected a whole number"),
        ('time = "soon"', "slurm.time=soon: expected minutes"),
        ("cpus = 0", "cpus=0: must be a finite number above 0"),
        ("cpus = ", "not TOML"),
        ("memory_gb = inf", "memory_gb=inf: must be a finite number above 0"),
        ("partition = 5", "partition = 5: must be a string"),
        ("exclude = [1]", r"exclude = \[1\]: must be a string or a list of strings"),
        ("setup = {a=1}", "setup = .*: must be a string or a list of strings"),
        ("time = 0", "slurm.time=0: must be a minute or more"),
        ('time = "90:30"', "slurm.time=90:30: expected minutes"),
        ("role = 3", r"'role' must be tables such as \[role.old\]"),
        ("[[arch]]", "'arch' must be tables such as"),
        ("[role]\ncandidate = 3", r"\[role.candidate\] must be a table"),
        ("[role.candidat]", r"unknown section \[role.candidat\] \(did you mean 'candidate'"),
        (
            "[role.candidate]\npoll_s = 60",
            r"cannot stand in \[role.candidate\]",
        ),
        ("[arch.resnt8]", r"unknown section \[arch.resnt8\] \(did you mean 'resnet8'"),
    ],
)
def test_a_mistake_in_a_profile_is_named_with_its_file(home, text, message):
    with pytest.raises(ValueError, match=message) as raised:
        write(home, text)
    assert str(home / "mine.toml") in str(raised.value)


def test_a_profile_that_is_no_text_names_its_file(home):
    (home / "mine.toml").write_bytes(b"partition = '\xff'")
    with pytest.raises(ValueError, match=r"mine.toml: not TOML"):
        load("mine", {})


def test_a_missing_profile_and_an_unknown_word_name_the_nearest(home):
    (home / "mine.toml").touch()
    with pytest.raises(ValueError, match=r"profile=mien: .*did you mean 'mine'"):
        load("mien", {})
    with pytest.raises(ValueError, match=r"did you mean 'partition'"):
        load(None, {"partitoin": "x"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90", 90),
        ("1:30:00", 90),
        ("2-12:00:00", 3600),
        ("0:45:00", 45),
        ("1-0:30", 1470),
        ("2-0", 2880),
        ("0:01:30", 2),
        ("0:00:30", 1),
    ],
)
def test_times(text, expected):
    assert profile.minutes(text) == expected


def test_what_sbatch_is_told(bench, tmp_path):
    options = SlurmOptions(
        gres="gpu:a100:1", exclude=("n1", "n2"), setup=("module load cuda",), memory_gb=1.5
    )
    job = bench.job("job", resources=Resources(cpus=4, gpus=1, memory_gb=8, minutes=9))
    request = request_of(Profile(common=options), job, memory_factor=2, avoid=("n7",))
    array = Array.new([job.ref], request, program="p", code=CODE)
    told = submit.parameters(array, name="flips-x", depends="afterok:7_1:7_2,afterany:9")
    assert told["mem"] == "3072MB"
    assert told["exclude"] == "n1,n2,n7"
    assert told["gres"] == "gpu:a100:1"
    assert "gpus_per_node" not in told, "gres says it already"
    assert told["dependency"] == "afterok:7_1:7_2,afterany:9"
    assert told["additional_parameters"] == {"kill-on-invalid-dep": "yes", "requeue": True, "export": "ALL"}
    assert told["setup"][0] == "module load cuda"
    assert told["comment"] == array.token
    assert told["srun_args"] == ["--cpus-per-task=4"]


def test_arrays_are_cut_below_the_largest_and_by_what_they_wait_for(bench):
    jobs = [bench.job(f"j{i}") for i in range(7)]
    requests = {job.id: request_of(Profile(), job) for job in jobs}
    depends = {job.id: "afterok:1" if i == 6 else "" for i, job in enumerate(jobs)}
    arrays = submit.shapes([job.ref for job in jobs], requests, depends, largest=4)
    assert [[job.id for job in array] for array in arrays] == [
        [job.id for job in jobs[some]] for some in (slice(4), slice(4, 6), slice(6, 7))
    ]


@pytest.mark.parametrize(
    ("words", "mem", "mem_per_cpu"),
    [
        ({}, "8192MB", None),
        ({"mem_per_cpu": "1.5"}, None, "1536MB"),
        ({"memory_gb": "none"}, None, None),
    ],
)
def test_memory_is_asked_for_by_node_or_by_core_or_not_at_all(bench, tmp_path, words, mem, mem_per_cpu):
    job = bench.job("job", resources=Resources(cpus=4, gpus=0, memory_gb=8, minutes=9))
    array = Array.new([job.ref], request_of(load(None, words), job), program="p", code=CODE)
    told = submit.parameters(array, name="flips-x", depends="")
    assert (told.get("mem"), told.get("mem_per_cpu")) == (mem, mem_per_cpu)


def test_a_later_section_may_ask_for_memory_in_another_way(bench, home):
    (home / "mine.toml").write_text("mem_per_cpu = 2\n[role.candidate]\nmemory_gb = 5")
    request = request_of(load("mine", {}), bench.job("job"), memory_factor=2)
    assert (request.memory_gb, request.mem_per_cpu) == (10, None)
    request = request_of(load("mine", {"mem_per_cpu": "3"}), bench.job("job"), memory_factor=2)
    assert (request.memory_gb, request.mem_per_cpu) == (None, 6)


def test_further_options_of_sbatch_come_from_the_profile_and_the_command_line(bench, home):
    (home / "mine.toml").write_text(
        """
        [extra]
        reservation = "night"
        exclusive = true
        [role.candidate.extra]
        licenses = "a:1"
        """
    )
    made = load("mine", {"extra.reservation": "day", "extra.exclusive": "false"})
    array = Array.new([bench.job("job").ref], request_of(made, bench.job("job")), program="p", code=CODE)
    told = submit.parameters(array, name="flips-x", depends="")["additional_parameters"]
    assert (told["reservation"], told["licenses"]) == ("day", "a:1")
    assert "exclusive" not in told


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"extra.partition": "x"}, "say slurm.partition="),
        ({"extra.mem-per-cpu": "4G"}, "say slurm.mem_per_cpu="),
        ({"extra.comment": "x"}, "cannot be changed"),
        ({"extra.clusters": "two"}, "cannot be changed"),
        ({"extra.No_Name": "x"}, "expected the long name"),
        ({"extra.reservation": "a\nb"}, "printable"),
        ({"extra": "x"}, "say slurm.extra.NAME=VALUE"),
        ({"memory_gb": "4", "mem_per_cpu": "1"}, "exclude each other"),
        ({"mem_per_cpu": "0"}, "above 0"),
    ],
)
def test_what_sbatch_cannot_be_told_is_named(words, message):
    with pytest.raises(ValueError, match=message):
        load(None, words)


def test_the_ledger_remembers_arrays(bench):
    ledger = Ledger(bench.runs)
    request = request_of(Profile(), bench.job("other"))
    array = Array.new([bench.job("job", size=2).ref], request, program="p", code=CODE)
    ledger.write(array)
    assert ledger.read(array.token) == array
    assert ledger.read("nonsense") is None
    assert ledger.read("../arrays/" + array.token) is None
    assert ledger.name == Ledger(bench.runs).name
    ledger.forget(array.token)
    assert ledger.read(array.token) is None


def test_the_documented_profile_is_a_valid_one(bench, home, tmp_path):
    (home / "mine.toml").write_text(EXAMPLE.read_text())
    documented = load("mine", {})
    assert documented.common.partition
    assert documented.archs["resnet50"].memory_gb
