"""What jobs are estimated to need: more work takes longer, and what does not fit is divided."""

import pytest

from harness import config, resources
from harness.plan import expand


def runs(*words, role="candidate"):
    (setting,) = config.read([*words, "seeds=0"]).settings
    return [run for run in expand(setting) if run.role == role]


def estimate(*words, role="candidate", image_size=32, gpu=False):
    made = runs(*words, role=role)
    return resources.estimate(made, image_size=image_size, train_samples=50_000, gpu=gpu)


def cohort(*words, image_size=32, gpu=True):
    return resources.cohort_size(runs(*words)[0], image_size=image_size, gpu=gpu)


WORDS = ("dataset=cifar100", "methods=none")


@pytest.mark.parametrize(
    "more",
    [
        (*WORDS, "epochs=200"),
        (*WORDS, "stem=cifar"),
        (*WORDS, "arch=resnet50"),
        ("dataset=cifar100", "methods=all"),
    ],
)
def test_more_arithmetic_takes_longer(more):
    assert estimate(*more).minutes > estimate(*WORDS).minutes


def test_the_time_is_that_of_the_forward_and_backward_passes():
    """ResNet-18 on 32 pixels: 1.814 billion multiply-adds at 224; three passes and the old model's one."""
    gflops = 2 * 1.814 * (32 / 224) ** 2 * 4 * 100 * 50_000

    assert estimate(*WORDS).minutes == 10 + round(2 * gflops / 10 / 60)
    assert estimate(*WORDS, gpu=True).minutes == 10 + round(2 * gflops / 10_000 / 60)


def test_a_gpu_job_gets_one_gpu_and_cores_to_load_with():
    with_gpu, without = estimate(*WORDS, gpu=True), estimate(*WORDS)

    assert (with_gpu.gpus, with_gpu.cpus) == (1, 8)
    assert (without.gpus, without.cpus) == (0, 1)


def test_memory_grows_with_the_models_that_are_held():
    assert estimate("dataset=cifar100", "methods=all").memory_gb > estimate(*WORDS).memory_gb


def test_a_frozen_backbone_sees_every_image_once(tmp_path):
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"")
    words = (*WORDS, "arch=vit_b_32", f"weights={weights}")

    assert estimate(*words, "epochs=1").minutes == estimate(*words, "epochs=100").minutes


def test_a_network_of_one_image_size_costs_the_same_whatever_it_is_given():
    words = (*WORDS, "arch=vit_b_16")

    assert estimate(*words, image_size=32) == estimate(*words, image_size=224)


def test_without_a_gpu_sixteen_candidates_share_a_stream():
    assert cohort(*WORDS, gpu=False) == 16


def test_on_a_gpu_a_cohort_is_as_large_as_its_memory_holds():
    small, large = cohort(*WORDS), cohort("dataset=imagenet", "methods=none", image_size=224)

    assert small == 16
    assert 1 <= large < 16
    assert cohort("dataset=imagenet", "methods=none", "batch_size=4096", image_size=224) == 1


def test_what_a_run_of_a_cohort_takes_alone_counts_its_own_teachers():
    (none,) = runs("dataset=digits", "methods=none")
    small, large = none.model, runs("dataset=cifar100", "methods=none")[0].model
    ratio = resources.gmacs(large, 8) / resources.gmacs(small, 8)
    costs = [
        resources.StepCost.of(none, old, references, image_size=8)
        for old, references in ((None, 0), (small, 1), (large, 8))
    ]

    assert resources.shares_alone(costs[:1]) == [1.0]
    assert resources.shares_alone(costs[:2]) == pytest.approx([3 / 8, 5 / 8])
    together = 9 + ratio + 8
    assert resources.shares_alone(costs) == pytest.approx(
        [3 / together, 5 / together, (11 + ratio) / together]
    )


def test_gmacs_are_multiply_adds_at_the_images_size():
    model = runs("dataset=cifar100", "methods=none", "arch=resnet18")[0].model

    assert resources.gmacs(model, 224) == pytest.approx(1.814, rel=0.01)
    assert resources.gmacs(model, 112) == pytest.approx(1.814 / 4, rel=0.01)
