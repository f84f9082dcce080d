"""What must be true in every state of the model; named in docs/decisions/0009."""

from __future__ import annotations

from collections.abc import Callable

from tests.model.protocol import ATTEMPTS, CUT, DONE, Rules, World

Invariant = Callable[[World, Rules], bool]


def ends_once(world: World, _: Rules) -> bool:
    """The end of a job is published once."""
    return all(job.ends <= 1 for job in world.jobs)


def runs_by_policy(world: World, rules: Rules) -> bool:
    """A started job is not run again where the policy says so; nor more than it may be tried."""
    most = ATTEMPTS if rules.always else 1
    return all(len(job.runs) <= most for job in world.jobs)


def done_is_measured(world: World, _: Rules) -> bool:
    """A published result is that of a run under the same token."""
    return all(job.state != DONE or job.ended_by in job.runs for job in world.jobs)


def nothing_measured_is_lost(world: World, _: Rules) -> bool:
    """What a run has measured is published, on a disk, or just now in its daemon's hands."""
    for number, job in enumerate(world.jobs):
        for run in job.runs:
            if run in {CUT, job.ended_by}:
                continue
            at_hand = any(
                (each.job, each.token) == (number, run)
                or any(
                    (report.job, report.token) == (number, run)
                    for report in (*each.outbox, *each.legacy, *each.parked)
                )
                for each in world.daemons
            )
            if not at_hand:
                return False
    return True


def nobody_disappears(world: World, _: Rules) -> bool:
    """A job waits, or is held under a token, or has ended."""
    return all(
        job.state == "queued" or (job.state == "running" and job.token > 0) or job.ends > 0
        for job in world.jobs
    )


def one_holder(world: World, rules: Rules) -> bool:
    """Of all daemons that think they hold a job, at most one passes the fence."""
    del rules
    for number, job in enumerate(world.jobs):
        passing = [
            each
            for each in world.daemons
            if job.state == "running"
            and job.token > 0
            and (
                (each.job == number and each.token == job.token)
                or each.taken == (number, job.token)
                or any((r.job, r.token) == (number, job.token) for r in each.outbox)
            )
        ]
        if len(passing) > 1:
            return False
    return True


def parked_is_late(world: World, _: Rules) -> bool:
    """What is parked is not what was published: nobody is alarmed by a lost answer."""
    return all(
        world.jobs[report.job].ended_by != report.token
        for each in world.daemons
        for report in each.parked
    )


def legacy_is_brought(world: World, _: Rules) -> bool:
    """Nobody settles, or runs again, a job whose report lies open before him."""
    return not any(job.passed_over for job in world.jobs)


def end_is_final(world: World, _: Rules) -> bool:
    """What was said of the end of a job stands."""
    return not any(job.overwritten for job in world.jobs)


def live_keeps_its_job(world: World, _: Rules) -> bool:
    """Nobody takes over what a process that is alive, and does not stand still, is at work on."""
    return not any(job.robbed for job in world.jobs)


INVARIANTS: dict[str, Invariant] = {
    "EndsOnce": ends_once,
    "RunsByPolicy": runs_by_policy,
    "DoneIsMeasured": done_is_measured,
    "NothingMeasuredIsLost": nothing_measured_is_lost,
    "NobodyDisappears": nobody_disappears,
    "OneHolder": one_holder,
    "ParkedIsLate": parked_is_late,
    "LegacyIsBrought": legacy_is_brought,
    "EndIsFinal": end_is_final,
    "LiveKeepsItsJob": live_keeps_its_job,
}
