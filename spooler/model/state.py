"""The only state machine of a job: a dict from (state, event) to state.

Storage verbs are its events, so a storage cannot invent an arrow. The picture in
docs/architecture.md is compared with this dict by a test.
"""

from __future__ import annotations

from enum import StrEnum

from spooler.errors import Bug


class State(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    ERROR = "error"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Return whether no arrow leaves this state."""
        return self in {State.DONE, State.ERROR, State.CANCELLED}


class Event(StrEnum):
    """What can happen to a job."""

    CLAIM = "claim"
    RENEW = "renew"
    RECLAIM = "reclaim"
    RELEASE = "release"
    FINISH = "finish"
    FAIL = "fail"
    CANCEL = "cancel"


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.QUEUED, Event.CLAIM): State.RUNNING,
    (State.QUEUED, Event.CANCEL): State.CANCELLED,
    (State.RUNNING, Event.RENEW): State.RUNNING,
    (State.RUNNING, Event.RECLAIM): State.RUNNING,
    (State.RUNNING, Event.RELEASE): State.QUEUED,
    (State.RUNNING, Event.FINISH): State.DONE,
    (State.RUNNING, Event.FAIL): State.ERROR,
    (State.RUNNING, Event.CANCEL): State.CANCELLED,
}

#: The event that brings a running job to each of the final states.
ENDING: dict[State, Event] = {
    State.DONE: Event.FINISH,
    State.ERROR: Event.FAIL,
    State.CANCELLED: Event.CANCEL,
}


def step(state: State, event: Event) -> State:
    """Return the state after `event`; raises Bug where there is no such arrow."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise Bug(f"a job that is {state} cannot {event}") from None
