"""The micro-batcher: batches form while the thread works, failures stay with their item, the queue is bounded."""

import asyncio
import threading

import pytest

from bentos.classifier.batcher import MicroBatcher, QueueFullError


class Doubler:
    """Doubles numbers, notes each batch, and waits at the gate before its first."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.batches: list[list[int]] = []
        self.threads: set[str] = set()

    def __call__(self, numbers: list[int]) -> list[int | Exception]:
        assert self.gate.wait(10)
        self.batches.append(numbers)
        self.threads.add(threading.current_thread().name)
        return [ValueError(f"{number} is negative") if number < 0 else 2 * number for number in numbers]


def test_what_arrives_while_the_thread_works_goes_through_together_in_order() -> None:
    async def scenario() -> tuple[Doubler, list[int]]:
        work = Doubler()
        batcher = MicroBatcher(work, largest_batch=3, longest_queue=100)
        first = batcher.submit([1])
        await asyncio.sleep(0.05)  # the thread has taken the first batch and stands at the gate
        rest = [future for number in range(2, 7) for future in batcher.submit([number])]
        work.gate.set()
        return work, await asyncio.gather(*first, *rest)

    work, results = asyncio.run(scenario())
    assert results == [2, 4, 6, 8, 10, 12]
    assert work.batches == [[1], [2, 3, 4], [5, 6]]
    assert len(work.threads) == 1


def test_one_bad_item_never_fails_its_neighbours() -> None:
    async def scenario() -> list[int | BaseException]:
        work = Doubler()
        work.gate.set()
        batcher = MicroBatcher(work, largest_batch=8, longest_queue=8)
        return await asyncio.gather(*batcher.submit([1, -5, 3]), return_exceptions=True)

    first, bad, third = asyncio.run(scenario())
    assert (first, third) == (2, 6)
    assert isinstance(bad, ValueError)
    assert str(bad) == "-5 is negative"


def test_a_full_queue_refuses_a_whole_request_and_takes_none_of_it() -> None:
    async def scenario() -> tuple[Doubler, list[int]]:
        work = Doubler()
        batcher = MicroBatcher(work, largest_batch=1, longest_queue=2)
        futures = batcher.submit([1])
        await asyncio.sleep(0.05)
        futures += batcher.submit([2])
        with pytest.raises(QueueFullError):
            batcher.submit([3, 4])
        futures += batcher.submit([5])
        work.gate.set()
        return work, await asyncio.gather(*futures)

    work, results = asyncio.run(scenario())
    assert results == [2, 4, 10]
    assert work.batches == [[1], [2], [5]]


def test_callers_that_went_away_are_not_worked_for() -> None:
    async def scenario() -> Doubler:
        work = Doubler()
        batcher = MicroBatcher(work, largest_batch=8, longest_queue=8)
        first = batcher.submit([1])
        await asyncio.sleep(0.05)
        gone, stays = batcher.submit([2, 3])
        gone.cancel()
        work.gate.set()
        await asyncio.gather(*first, stays)
        return work

    assert asyncio.run(scenario()).batches == [[1], [3]]


def test_work_that_fails_or_miscounts_fails_its_batch_and_the_next_batch_is_served() -> None:
    answers = iter([RuntimeError("no memory"), [1, 2, 3], [7]])

    def work(_: list[int]) -> list[int]:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def scenario() -> list[int | BaseException]:
        batcher: MicroBatcher[int, int] = MicroBatcher(work, largest_batch=8, longest_queue=8)
        outcomes: list[int | BaseException] = []
        for _ in range(3):
            outcomes += await asyncio.gather(*batcher.submit([0]), return_exceptions=True)
        return outcomes

    failed, miscounted, served = asyncio.run(scenario())
    assert "no memory" in str(failed)
    assert str(miscounted) == "1 results expected, 3 found"
    assert served == 7
