"""Read ahead: in order, as far ahead as is said, and nothing goes on that nobody waits for."""

import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from xt.regions.ahead import begun_ahead, made_ahead


@pytest.mark.parametrize("count", [0, 1, 2, 5])
@pytest.mark.parametrize("length", [0, 1, 2, 3, 7])
def test_each_is_begun_so_many_steps_before_it_is_given(count: int, length: int) -> None:
    begun: list[int] = []
    seen = []
    for number in begun_ahead((begun.append(each) or each for each in range(length)), count):
        seen.append(number)
        assert len(begun) == min(number + 1 + count, length)
    assert seen == list(range(length))


def test_stages_behind_each_other_are_begun_in_turn() -> None:
    said: list[str] = []

    def stage(name: str, number: int) -> int:
        said.append(f"{name}{number}")
        return number

    read = begun_ahead((stage("r", number) for number in range(4)), 2)
    copied = begun_ahead((stage("c", number) for number in read), 1)
    assert [stage("u", number) for number in copied] == [0, 1, 2, 3]
    assert said == ["r0", "r1", "r2", "c0", "r3", "c1", "u0", "c2", "u1", "c3", "u2", "u3"]


def test_what_is_left_when_the_loop_ends_early_is_cancelled() -> None:
    cancelled: list[int] = []
    for number in (ahead := begun_ahead(range(9), 2, cancelled.append)):
        if number == 3:
            break
    ahead.close()
    assert cancelled == [4, 5]


def test_what_was_given_on_is_not_kept_in_memory() -> None:
    class Batch:
        pass

    for count in (0, 1, 2):
        seen = []
        for batch in begun_ahead((Batch() for _ in range(6)), count):
            seen.append(weakref.ref(batch))
            del batch
            assert [reference() for reference in seen] == [None] * len(seen)


def test_a_pool_makes_them_and_tells_of_errors_where_they_belong() -> None:
    def tenth(number: int) -> float:
        return 1 / (number - 3)

    with ThreadPoolExecutor(2) as pool:
        made = made_ahead(tenth, range(9), pool)
        assert [next(made) for _ in range(3)] == [-1 / 3, -1 / 2, -1]
        with pytest.raises(ZeroDivisionError):
            next(made)


def test_what_a_pool_has_not_begun_is_cancelled_where_the_loop_ends() -> None:
    working, going, made = threading.Event(), threading.Event(), []

    def make(number: int) -> int:
        if number:
            working.set()
            going.wait()
        made.append(number)
        return number

    with ThreadPoolExecutor(1) as pool:
        ahead = made_ahead(make, range(9), pool, count=3)
        assert next(ahead) == 0
        working.wait()
        ahead.close()
        going.set()
    assert made == [0, 1]
