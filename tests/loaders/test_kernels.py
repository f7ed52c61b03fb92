import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from loaders.kernels import U64, below, crop_and_flip, epoch_order, pad_crop_flip, sample_hash, shift_image

WORDS = st.integers(0, 2**64 - 1)
MASK = 2**64 - 1


def splitmix(z: int) -> int:
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


@given(WORDS, WORDS, WORDS, st.integers(0, 64))
def test_the_hash_is_this_one_on_every_machine(key: int, epoch: int, sample: int, draw: int) -> None:
    gamma = 0x9E3779B97F4A7C15
    z = splitmix((key + gamma) & MASK)
    z = splitmix(z ^ ((epoch + gamma) & MASK))
    z = splitmix(z ^ ((sample * gamma + 1) & MASK))
    z = splitmix(z ^ ((draw * gamma + 0x94D049BB133111EB) & MASK))
    assert sample_hash(U64(key), U64(epoch), U64(sample), U64(draw)) == z


@given(WORDS, st.integers(1, 2**31))
def test_bounded_numbers_stay_below_their_bound(bits: int, bound: int) -> None:
    assert 0 <= below(U64(bits), bound) < bound


def test_bounded_numbers_are_uniform() -> None:
    counts = np.bincount([below(U64(sample_hash(U64(1), U64(0), U64(i), U64(1))), 9) for i in range(9000)])
    assert len(counts) == 9
    assert (abs(counts - 1000) < 150).all()  # five standard deviations


def test_flips_and_offsets_are_independent_and_balanced() -> None:
    tops, lefts, flips = crop_and_flip(U64(5), U64(0), np.arange(20_000), 4, True)
    assert set(tops) == set(lefts) == set(range(9))
    assert abs(flips.mean() - 0.5) < 0.02
    assert abs(np.corrcoef([tops, lefts, flips]) - np.eye(3)).max() < 0.04


def test_without_flip_nothing_is_flipped() -> None:
    assert not crop_and_flip(U64(5), U64(0), np.arange(1000), 4, False)[2].any()


@given(WORDS, st.integers(0, 1000), st.sets(st.integers(0, 10_000), min_size=1, max_size=50))
def test_an_order_is_a_permutation_and_a_subset_keeps_its_order(
    key: int, epoch: int, chosen: set[int]
) -> None:
    samples = np.array(sorted(chosen))
    order = epoch_order(key, epoch, samples)
    assert sorted(order) == sorted(samples)
    assert list(epoch_order(key, epoch, samples[::2])) == [s for s in order if s in set(samples[::2])]


@given(st.data())
@settings(max_examples=200)
def test_shifting_is_padding_cropping_and_mirroring(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))
    pad = data.draw(st.integers(0, 12))
    top, left = data.draw(st.integers(0, 2 * pad)), data.draw(st.integers(0, 2 * pad))
    flip = data.draw(st.booleans())
    image = np.random.default_rng(0).integers(1, 256, (height, width, 3), dtype=np.uint8)
    wanted = np.pad(image, ((pad, pad), (pad, pad), (0, 0)))[top : top + height, left : left + width]
    out = np.full_like(image, 77)
    shift_image(image.reshape(-1), top - pad, left - pad, flip, out)
    np.testing.assert_array_equal(out, wanted[:, ::-1] if flip else wanted)


def test_a_batch_takes_each_image_from_its_place_and_by_its_own_draws() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3), dtype=np.uint8)
    data = np.concatenate([np.zeros(7, np.uint8), images.reshape(-1)])
    starts = 7 + np.arange(5) * 72
    samples = np.array([3, 0, 3])
    out = np.empty((3, 4, 6, 3), np.uint8)
    pad_crop_flip(data, starts, samples, U64(9), U64(2), 2, True, out)
    tops, lefts, flips = crop_and_flip(U64(9), U64(2), samples, 2, True)
    for sample, top, left, flip, got in zip(samples, tops, lefts, flips, out, strict=True):
        crop = np.pad(images[sample], ((2, 2), (2, 2), (0, 0)))[top : top + 4, left : left + 6]
        np.testing.assert_array_equal(got, crop[:, ::-1] if flip else crop)
