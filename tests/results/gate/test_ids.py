import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from results.gate.ids import distinct, positions
from results.gate.values import plain_ids

IDS = st.lists(st.integers(-50, 50) | st.integers(-(10**15), 10**15), min_size=1, max_size=40, unique=True)
NAMES = st.lists(st.text(min_size=1, max_size=3), min_size=1, max_size=20, unique=True)


@given(IDS | NAMES, st.randoms())
def test_ids_are_found_wherever_they_stand(among, random):
    wanted = [*random.sample(among, len(among) // 2 + 1), type(among[0])(99999)]
    expected = [among.index(each) if each in among else len(among) for each in wanted]
    assert positions(pa.array(wanted), pa.array(among)).tolist() == expected


@given(st.lists(st.integers(-5, 5) | st.integers(-(10**15), 10**15), min_size=1, max_size=12))
def test_an_id_that_comes_twice_is_noticed(ids):
    assert distinct(pa.array(ids)) == (len(set(ids)) == len(ids))
    assert distinct(pa.array(list(map(str, ids)))) == (len(set(ids)) == len(ids))


def test_whole_numbers_are_one_id_however_they_are_written():
    for column in (["1.0", "20.0", "3"], [1, 20, 3], [1.0, 20.0, 3.0], [" 1", "20 ", "3"]):
        made = plain_ids("id", pa.chunked_array([pa.array(column)]))
        assert made.to_pylist() == [1, 20, 3]
    assert plain_ids("id", pa.chunked_array([pa.array(["007", "v1.0"])])).to_pylist() == ["007", "v1.0"]


def test_numbers_and_texts_are_paired_as_texts():
    assert positions(pa.array([2, 1]), pa.array(["1", "2", "a"])).tolist() == [1, 0]
    assert positions(pa.array(np.array([7], np.int32)), pa.array([7])).tolist() == [0]
