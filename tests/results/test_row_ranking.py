from __future__ import annotations

import numpy as np
import pytest

from results.ranking import minus_plain, rank, rate_intervals
from results.row_ranking import between_plain_models, from_plain, intervals_of_rows, rank_rows, unstable_rows
from results.statistics import holm


def draw(rates, *, seeds, samples, seed=7):
    """Events [M, S, N] that are independent, with one rate for each method."""
    random = np.random.default_rng(seed)
    return random.random((len(rates), seeds, samples)) < np.array(rates)[:, None, None]


EXAMPLE = draw([0.02, 0.03, 0.03, 0.05, 0.1], seeds=4, samples=300)


def by_seed(events, seeds=None):
    return dict(zip(seeds or range(len(events)), events, strict=True))


ROWS = {label: by_seed(events) for label, events in zip("abcde", EXAMPLE, strict=True)}
PLAIN = [by_seed(events) for events in draw([0.03] * 4, seeds=4, samples=300, seed=3)]


class TestRanks:
    def test_a_row_that_lacks_a_seed_is_not_ranked(self):
        rows = ROWS | {"c": by_seed(EXAMPLE[2, :3])}
        labels, ranking = rank_rows(rows, range(4))

        assert labels == ("a", "b", "d", "e")
        assert ranking.half_width == pytest.approx(rank(EXAMPLE[[0, 1, 3, 4]]).half_width)

    def test_nothing_is_ranked_by_fewer_than_three_seeds(self):
        assert rank_rows(ROWS, range(2)) == ((), None)

    def test_without_a_whole_row_there_is_no_ranking(self):
        assert rank_rows({"a": by_seed(EXAMPLE[0, :3])}, range(4)) == ((), None)

    def test_an_unstable_method_has_no_rank_and_widens_no_other_interval(self):
        events = draw([0.02, 0.03, 0.05, 0.02, 0.02], seeds=5, samples=2000)
        events[4, 4] = draw([0.6], seeds=1, samples=2000)[0]
        rows = {name: by_seed(row) for name, row in zip("abcde", events, strict=True)}

        labels, ranking = rank_rows(rows, range(5))

        assert labels == ("a", "b", "c", "d")
        assert (ranking.half_width == rank(events[:4]).half_width).all()
        assert (ranking.half_width[0, 1] < 0.2 * rank(events).half_width[0, 1]).all()

    def test_rows_are_called_unstable_by_the_seeds_that_all_of_them_have(self):
        events = draw([0.02, 0.03, 0.05, 0.02, 0.02], seeds=6, samples=2000)
        events[4, 4] = draw([0.6], seeds=1, samples=2000)[0]
        rows = {name: by_seed(row) for name, row in zip("abcde", events, strict=True)}

        assert unstable_rows(rows) == {"e"}
        assert unstable_rows(rows | {"a": by_seed(events[0, :5]), "f": {}}) == {"e"}
        assert unstable_rows(rows | {"a": by_seed(events[0, :4])}) == frozenset()
        assert unstable_rows({"f": {}}) == frozenset()


class TestMinusPlain:
    def test_p_values_are_adjusted_for_the_number_of_methods(self):
        found = from_plain(ROWS, PLAIN, range(4))

        alone = minus_plain(EXAMPLE, np.stack([np.stack(list(model.values())) for model in PLAIN]))
        assert list(found) == list(ROWS)
        assert [one.p for one in found.values()] == pytest.approx(holm([one.p for one in alone]))
        assert [one.standard_error for one in found.values()] == pytest.approx(
            [one.standard_error for one in alone]
        )

    def test_a_row_that_lacks_a_seed_is_compared_on_those_it_has(self):
        rows = ROWS | {"c": {seed: EXAMPLE[2, seed] for seed in (0, 2, 3)}}
        found = from_plain(rows, PLAIN, range(4))

        common = [0, 2, 3]
        plain = np.stack([np.stack([model[seed] for seed in common]) for model in PLAIN])
        assert found["c"].seeds == 3
        assert found["c"].estimate == pytest.approx(EXAMPLE[2, common].mean() - plain.mean())
        expected = minus_plain(EXAMPLE[[2, 0, 1, 3, 4]][:, common], plain)[0]
        assert found["c"].standard_error == pytest.approx(expected.standard_error)
        assert [found[label].seeds for label in "abde"] == [4] * 4

    def test_a_reference_that_lacks_a_seed_is_left_out(self):
        fewer = [*PLAIN[:3], {seed: events for seed, events in PLAIN[3].items() if seed != 1}]

        assert from_plain(ROWS, fewer, range(4)) == from_plain(ROWS, PLAIN[:3], range(4))

    def test_without_no_treatment_or_a_common_seed_there_is_nothing_to_compare(self):
        assert from_plain(ROWS, [], range(4)) == {}
        assert from_plain({"a": {}}, PLAIN, range(4)) == {}


class TestIntervals:
    def test_of_rows_that_lack_seeds_leave_the_others_alone(self):
        complete = intervals_of_rows({label: ROWS[label] for label in "abde"})
        found = intervals_of_rows(ROWS | {"c": {seed: EXAMPLE[2, seed] for seed in (0, 2, 3)}, "f": {}})

        assert {label: found[label] for label in "abde"} == complete
        assert list(found) == list("abcde")
        expected = rate_intervals(EXAMPLE[[2, 0, 1, 3, 4]][:, [0, 2, 3]])[0]
        assert found["c"] == expected


class TestBetweenPlainModels:
    rights = draw([0.9, 0.8, 0.85], seeds=2, samples=100)

    def test_is_one_mean_for_each_seed_over_all_ordered_pairs_with_its_models(self):
        found = between_plain_models([by_seed(right, (3, 5)) for right in self.rights])

        expected = []
        for seed in range(2):
            others = [(m, s) for m in range(3) for s in range(2)]
            rates = [
                (self.rights[m, seed] & ~self.rights[other]).mean()
                for m in range(3)
                for other in others
                if other != (m, seed)
            ]
            expected.append(np.mean(rates))
        assert found == pytest.approx(expected)

    def test_of_one_model_says_nothing(self):
        assert between_plain_models([{0: self.rights[0, 0]}]) == []
