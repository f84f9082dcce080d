"""Tried again until it is done, or nobody can wait any more."""

from __future__ import annotations

import pytest

from spooler.daemon.persist import persist
from spooler.errors import BackendUnavailable, JobGone, LeaseLost, ReportRefused


class Troubled:
    """An action that fails in the way of each of `errors`, and then is done."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.tries = 0

    def __call__(self) -> str:
        self.tries += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def away(count: int) -> list[BackendUnavailable]:
    return [BackendUnavailable(f"away {number}") for number in range(count)]


def endless(seconds: float) -> bool:
    return seconds >= 0


def test_it_returns_what_the_action_returns_and_waits_for_nothing() -> None:
    waits: list[float] = []
    assert persist(Troubled(), lambda seconds: not waits.append(seconds)) == "done"
    assert waits == []


def test_each_trouble_is_told_and_waited_for() -> None:
    told: list[str] = []
    action = Troubled(*away(3))
    assert persist(action, endless, lambda error: told.append(str(error))) == "done"
    assert action.tries == 4
    assert told == ["away 0", "away 1", "away 2"]


def test_the_waits_grow_and_then_stay() -> None:
    waits: list[float] = []
    persist(Troubled(*away(20)), lambda seconds: not waits.append(seconds))
    assert len(waits) == 20
    for number, wait in enumerate(waits):
        whole = min(0.1 * 2**number, 30.0)
        assert 0.5 * whole <= wait <= 1.5 * whole, "with jitter: daemons must not come in step"


def test_a_storage_that_says_when_is_asked_then() -> None:
    waits: list[float] = []
    error = BackendUnavailable("slow down", retry_after=17.0)
    persist(Troubled(error, error), lambda seconds: not waits.append(seconds))
    assert waits == [17.0, 17.0]


def test_when_patience_ends_the_last_trouble_is_raised() -> None:
    action, told = Troubled(*away(9)), list[str]()
    with pytest.raises(BackendUnavailable, match="away 2"):
        persist(action, lambda _: action.tries < 3, lambda error: told.append(str(error)))
    assert action.tries == 3
    assert told[-1] == "away 2", "it is told all the same"


def test_without_patience_it_is_tried_once() -> None:
    action = Troubled(*away(1))
    with pytest.raises(BackendUnavailable):
        persist(action, lambda _: False)
    assert action.tries == 1


@pytest.mark.parametrize(
    "error", [LeaseLost("x"), JobGone("x"), ReportRefused("x"), ValueError("x"), OSError("x")]
)
def test_everything_else_goes_through_at_once(error: Exception) -> None:
    action = Troubled(*away(1), error)
    with pytest.raises(type(error)):
        persist(action, endless)
    assert action.tries == 2
