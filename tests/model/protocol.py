"""The protocol of claims, leases, records, estates and recovery, as a small model.

Two daemons, two jobs, two attempts. A daemon may die, a lease may run out, an answer may be lost
and the storage may be away between any two steps. docs/decisions/0009 explains the states, the
actions and the invariants; `Rules` takes one of the safeguards out. With `Rules.moments` a process
may stand still and go on, a disk may be slow, what a dead process has left lies open for a while,
and a word of progress is written some time after the look whether it may be.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

DAEMONS = (0, 1)
ATTEMPTS = 2
DONE, ERROR = "done", "error"
#: In the place of a run's token: it was cut off by a crash, and nothing was measured.
CUT = 0


class Rules(NamedTuple):
    """The policy, and the safeguards that can be taken out."""

    #: Whether a job that has started may run again (rerun = "always").
    always: bool = False
    #: A write is refused unless its token is the one in the storage.
    fenced: bool = True
    #: The report is on the own disk before it is brought to the storage, and until after that.
    kept_first: bool = True
    #: The start is noted in the storage before the handler runs.
    start_noted: bool = True
    #: Who meets the claim of a dead process first looks at what that has left, and brings it.
    inherited: bool = True
    #: Each daemon sees the other's disk; else only that of its own predecessors.
    near: bool = True
    #: A word of progress is written only where the job still runs under its token.
    show_fenced: bool = True
    #: The storage remembers which token has ended a job, so that an ack may be repeated.
    repeatable: bool = True
    #: A claim is renewed while its report is being brought.
    renewed: bool = True
    #: What is only shown of a claim, `jobs/running`, decides nothing.
    pictures_ignored: bool = True
    #: Leases run out of those alone who do not renew them, and time passes within steps.
    moments: bool = False


class Job(NamedTuple):
    """A job in the storage: its state, who holds it (0: nobody), and what has come of it."""

    state: str = "queued"
    token: int = 0
    attempt: int = 1
    started: bool = False
    ended_by: int = 0
    ends: int = 0
    #: The tokens under which the handler has run to its end.
    runs: tuple[int, ...] = ()
    #: Somebody took it over who could have had its report.
    passed_over: bool = False
    #: A word of progress stands where its end stood.
    overwritten: bool = False
    #: It was taken over from a process that was alive and at work on it.
    robbed: bool = False
    #: It is shown as running, by a link that a power cut has brought back.
    pictured: bool = False


class Report(NamedTuple):
    """A signed report on a job, under the token of its claim."""

    job: int
    token: int
    kind: str


class Daemon(NamedTuple):
    """A daemon's memory, which a crash clears, and its disk, which a crash does not.

    step: idle; asks (a claim was made and its answer lost); claimed; started; ran; waits (the
    storage was away when the report was brought, and it is on no disk).
    """

    step: str = "idle"
    job: int = -1
    token: int = 0
    #: What was taken over from a dead daemon and is not settled.
    taken: tuple[int, int] = (-1, 0)
    #: The records of this process, and of the estates that it has locked.
    outbox: tuple[Report, ...] = ()
    #: The records of its dead predecessors: whoever sees them may lock the estate.
    legacy: tuple[Report, ...] = ()
    parked: tuple[Report, ...] = ()
    #: The process stands still: it takes no step and renews nothing until it goes on.
    still: bool = False
    #: It is in the middle of bringing its oldest report: the disk is slow.
    busy: bool = False
    #: The job and the token of a word of progress that it is about to write.
    word: tuple[int, int] = (-1, 0)


class World(NamedTuple):
    """Everything there is."""

    jobs: tuple[Job, ...] = (Job(), Job())
    daemons: tuple[Daemon, ...] = (Daemon(), Daemon())


Move = tuple[str, World]


def with_job(world: World, number: int, job: Job) -> World:
    jobs = tuple(job if n == number else each for n, each in enumerate(world.jobs))
    return world._replace(jobs=jobs)


def with_daemon(world: World, number: int, daemon: Daemon) -> World:
    both = tuple(daemon if n == number else each for n, each in enumerate(world.daemons))
    return world._replace(daemons=both)


def fresh(world: World) -> int:
    """A token that nobody has (tokens are renamed by `canonical`, so there are few)."""
    return 1 + max(tokens(world), default=0)


def tokens(world: World) -> Iterator[int]:
    """Every token in the world, in a fixed order."""
    for job in world.jobs:
        yield from (job.token, job.ended_by, *job.runs)
    for each in world.daemons:
        yield from (each.token, each.taken[1], each.word[1])
        yield from (report.token for report in (*each.outbox, *each.legacy, *each.parked))


def canonical(world: World, *, symmetric: bool = False) -> World:
    """The same world with its tokens numbered in the order of their places.

    `symmetric`: daemons, and jobs, are put in an order of their own as well, because it does not
    matter which is which. Where two look alike they stay, so not every symmetry is used.
    """
    if symmetric:
        world = _sorted(world)
    names: dict[int, int] = {0: 0}
    for token in tokens(world):
        if token not in names:
            names[token] = len(names)
    if all(old == new for old, new in names.items()):
        return world
    return World(
        tuple(
            j._replace(
                token=names[j.token],
                ended_by=names[j.ended_by],
                runs=tuple(names[run] for run in j.runs),
            )
            for j in world.jobs
        ),
        tuple(
            Daemon(
                d[0],
                d[1],
                names[d[2]],
                (d[3][0], names[d[3][1]]),
                *(tuple(Report(r[0], names[r[1]], r[2]) for r in some) for some in d[4:7]),
                d.still,
                d.busy,
                (d.word[0], names[d.word[1]]),
            )
            for d in world.daemons
        ),
    )


def _sorted(world: World) -> World:
    if len(world.jobs) > 1 and _look(world.jobs[0]) > _look(world.jobs[1]):
        world = World((world.jobs[1], world.jobs[0]), tuple(_swapped(d) for d in world.daemons))
    one, two = world.daemons
    if _face(one) > _face(two):
        return World(world.jobs, (two, one))
    return world


def _look(job: Job) -> tuple[object, ...]:
    return (job[0], job[2], job[3], job[5], len(job[6]), job[1] > 0, job[4] in job[6], *job[7:])


def _face(me: Daemon) -> tuple[object, ...]:
    written = ([(r[0], r[2]) for r in some] for some in me[4:7])
    return (me[0], me[1], me[3][0], *written, me.still, me.busy, me.word[0])


def _swapped(me: Daemon) -> Daemon:
    """A daemon's view when the two jobs change their names."""

    def other(job: int) -> int:
        return job if job < 0 else 1 - job

    return Daemon(
        me[0],
        other(me[1]),
        me[2],
        (other(me[3][0]), me[3][1]),
        *(tuple(Report(other(r[0]), r[1], r[2]) for r in some) for some in me[4:7]),
        me.still,
        me.busy,
        (other(me.word[0]), me.word[1]),
    )


# --- the storage's side ------------------------------------------------------------------------


def holds(world: World, job: int, token: int, rules: Rules) -> bool:
    """The fence."""
    return not rules.fenced or (
        world.jobs[job].token == token and world.jobs[job].state == "running"
    )


def acked(world: World, report: Report, rules: Rules) -> World | None:
    """The world after an ack; None when it is refused."""
    job = world.jobs[report.job]
    if rules.repeatable and job.ended_by == report.token:
        return world
    if not holds(world, report.job, report.token, rules):
        return None
    ended = job._replace(state=report.kind, token=0, ended_by=report.token, ends=job.ends + 1)
    return with_job(world, report.job, ended)


# --- the actions of a daemon -------------------------------------------------------------------


def claims(world: World, d: int, rules: Rules) -> Iterator[Move]:
    """Take a waiting job, any of them, under a fresh token; a repeat finds what it has taken."""
    me = world.daemons[d]
    if me.step == "asks":
        for j, job in enumerate(world.jobs):
            if job.token == me.token and job.state == "running":
                found = me._replace(step="claimed", job=j)
                yield f"{d} asks again and finds its claim of {j}", with_daemon(world, d, found)
                return
        yield f"{d} asks again and has no claim", with_daemon(world, d, idle(me))
    if me.step != "idle":
        return
    for j, job in enumerate(world.jobs):
        if job.state == "queued" and (rules.pictures_ignored or not job.pictured):
            token = fresh(world)
            claim = job._replace(state="running", token=token, pictured=False)
            after = with_job(world, j, claim)
            claimed = me._replace(step="claimed", job=j, token=token)
            yield f"{d} claims {j}", with_daemon(after, d, claimed)
            asks = me._replace(step="asks", token=token)
            yield f"{d} claims {j}, and the answer is lost", with_daemon(after, d, asks)


def works(world: World, d: int, rules: Rules) -> Iterator[Move]:
    """Note the start, run, keep the report: the executor, step by step."""
    me = world.daemons[d]
    j = me.job
    if me.step == "claimed" and not holds(world, j, me.token, rules):
        yield f"{d} learns that it has lost {j}", with_daemon(world, d, idle(me))
    elif me.step == "claimed":
        noted = with_job(world, j, world.jobs[j]._replace(started=True))
        after = noted if rules.start_noted else world
        yield f"{d} notes the start of {j}", with_daemon(after, d, me._replace(step="started"))
        yield f"{d} notes the start of {j}, and the answer is lost", after
    elif me.step == "started":
        job = world.jobs[j]
        ran = with_job(world, j, job._replace(runs=(*job.runs, me.token)))
        yield f"{d} runs {j}", with_daemon(ran, d, me._replace(step="ran"))
    elif me.step == "ran" and rules.kept_first:
        report = Report(j, me.token, DONE)
        kept = idle(me)._replace(outbox=(*me.outbox, report))
        yield f"{d} keeps the report on {j}", with_daemon(world, d, kept)
    elif me.step in {"ran", "waits"}:
        after_ack = acked(world, Report(j, me.token, DONE), rules)
        after = world if after_ack is None else after_ack
        yield f"{d} brings the report on {j}, kept nowhere", with_daemon(after, d, idle(me))
        waits = me._replace(step="waits")
        yield f"{d} finds the storage away with the report on {j}", with_daemon(world, d, waits)


def delivers(world: World, d: int, rules: Rules) -> Iterator[Move]:
    """Bring the oldest report of the outbox; keep it until the storage has said yes or no."""
    me = world.daemons[d]
    if not me.outbox:
        return
    if rules.moments and not me.busy:
        slow = me._replace(busy=True)
        yield f"{d} begins to bring a report on a slow disk", with_daemon(world, d, slow)
        return
    me = me._replace(busy=False)
    report, rest = me.outbox[0], me.outbox[1:]
    after = acked(world, report, rules)
    if after is None:
        parked = (*me.parked, report) if report.kind == DONE else me.parked
        put = me._replace(outbox=rest, parked=parked)
        yield f"{d} parks its late report on {report.job}", with_daemon(world, d, put)
        return
    told = f"{d} brings the {report.kind} of {report.job}"
    yield told, with_daemon(after, d, me._replace(outbox=rest))
    yield f"{told}, and the answer is lost", with_daemon(after, d, me)


def recovers(world: World, d: int, rules: Rules) -> Iterator[Move]:
    """Take over a claim whose lease ran out, and settle it by the policy.

    A lease may run out at any moment: nothing rests on time. Claims of one's own, and those
    whose reports are cared for here, are spared. What was settled before is brought first, and what
    dead predecessors have left is taken up before anything.
    """
    me = world.daemons[d]
    ends = [r for each in world.daemons for r in (*each.outbox, *each.legacy) if r.kind == ERROR]
    if any(report in me.outbox for report in ends) or (rules.moments and ends):
        return
    j, token = me.taken
    if j >= 0:
        yield from settles(world, d, rules)
        return
    spared = {report.token for report in me.outbox} | {me.token}
    for number, job in enumerate(world.jobs):
        if job.state == "running" and job.token not in spared:
            lies = any(
                r.token == job.token for at in seen(d, rules) for r in world.daemons[at].legacy
            )
            if rules.moments and (not runs_out(world, number, rules) or (lies and rules.inherited)):
                continue
            token = fresh(world)
            robbed = rules.moments and any(not each.still for each in workers(world, number))
            over = job._replace(
                token=token,
                passed_over=job.passed_over or lies,
                robbed=job.robbed or robbed,
            )
            after = with_job(world, number, over)
            mine = me._replace(taken=(number, token))
            yield f"the lease of {number} runs out, {d} takes it over", with_daemon(after, d, mine)


def workers(world: World, number: int) -> list[Daemon]:
    """The processes that are at work on a job, or have its report."""
    mine = (number, world.jobs[number].token)
    return [
        each
        for each in world.daemons
        if mine in {(each.job, each.token), *((r.job, r.token) for r in each.outbox)}
    ]


def runs_out(world: World, number: int, rules: Rules) -> bool:
    """Whether the lease of a job is renewed by nobody."""
    return all(each.still or (each.busy and not rules.renewed) for each in workers(world, number))


def seen(d: int, rules: Rules) -> tuple[int, ...]:
    """Whose disks a daemon can see."""
    return DAEMONS if rules.near else (d,)


def restarts(world: World, d: int) -> Iterator[Move]:
    """Without estates, a daemon finds only what its own predecessors have left, at some time."""
    me = world.daemons[d]
    if me.legacy:
        mine = me._replace(outbox=(*me.outbox, *me.legacy), legacy=())
        yield f"{d} takes up its outbox", with_daemon(world, d, mine)


def settles(world: World, d: int, rules: Rules) -> Iterator[Move]:
    """Give back what may run again, report the end of what may not."""
    me = world.daemons[d]
    j, token = me.taken
    job, free = world.jobs[j], me._replace(taken=(-1, 0))
    if not ((rules.always or not job.started) and job.attempt < ATTEMPTS):
        kept = free._replace(outbox=(*me.outbox, Report(j, token, ERROR)))
        yield f"{d} keeps the end of {j}", with_daemon(world, d, kept)
    elif not holds(world, j, token, rules):
        yield f"{d} learns that {j} was taken over in turn", with_daemon(world, d, free)
    else:
        back = job._replace(state="queued", token=0, attempt=job.attempt + 1, started=False)
        after = with_job(world, j, back)
        yield f"{d} gives {j} back", with_daemon(after, d, free)
        yield f"{d} gives {j} back, and the answer is lost", after


def dies(world: World, d: int, rules: Rules) -> Iterator[Move]:
    """The process is gone, its lock too, and another one begins in its state folder.

    What it leaves is adopted by its successor, or before that by who sees its disk and meets its
    claim. The time in between is left out: nobody who could see the report does anything about the
    job without adopting it. Without that safeguard the report lies open.
    """
    me = world.daemons[d]
    if me.step == "ran":
        job = world.jobs[me.job]
        cut = tuple(CUT if run == me.token else run for run in job.runs)
        world = with_job(world, me.job, job._replace(runs=cut))
    if not rules.inherited or rules.moments:
        left = Daemon(legacy=(*me.legacy, *me.outbox), parked=me.parked)
        if left != me:
            yield f"{d} dies", with_daemon(world, d, left)
        return
    ends = [each for each in DAEMONS if any(r.kind == ERROR for r in world.daemons[each].outbox)]
    for heir in DAEMONS if rules.near and me.outbox else (d,):
        if heir != d and len(ends) == len(DAEMONS):
            continue  # as in `recovers`: ends that are settled are brought one after the other
        after = with_daemon(world, d, Daemon(parked=me.parked))
        him = after.daemons[heir]
        after = with_daemon(after, heir, him._replace(outbox=(*him.outbox, *me.outbox)))
        if after.daemons != world.daemons:
            yield f"{d} dies, and {heir} adopts what it has left", after


def idle(me: Daemon) -> Daemon:
    return me._replace(step="idle", job=-1, token=0)


def moves(world: World, rules: Rules) -> Iterator[Move]:
    """Everything that can happen next."""
    if rules.moments:
        yield from moments(world, rules)
    for d in DAEMONS:
        if world.daemons[d].still:
            yield from dies(world, d, rules)
            continue
        yield from claims(world, d, rules)
        yield from works(world, d, rules)
        yield from delivers(world, d, rules)
        yield from restarts(world, d)
        yield from recovers(world, d, rules)
        yield from dies(world, d, rules)


def moments(world: World, rules: Rules) -> Iterator[Move]:
    """What takes a certain moment: a process that stands still, a late write, an old picture."""
    for d, me in enumerate(world.daemons):
        if me.still:
            yield f"{d} goes on", with_daemon(world, d, me._replace(still=False))
            continue
        if me != Daemon(parked=me.parked):
            yield f"{d} stands still", with_daemon(world, d, me._replace(still=True))
        yield from shows(world, d, rules)
        for at in seen(d, rules):
            if at != d and rules.inherited and (left := world.daemons[at].legacy):
                after = with_daemon(world, at, world.daemons[at]._replace(legacy=()))
                mine = me._replace(outbox=(*me.outbox, *left))
                yield f"{d} adopts the outbox of a dead process", with_daemon(after, d, mine)
    for number, job in enumerate(world.jobs):
        if job.state == "queued" and not job.pictured:
            after = with_job(world, number, job._replace(pictured=True))
            yield f"a power cut leaves {number} shown as running", after


def shows(world: World, d: int, rules: Rules) -> Iterator[Move]:
    """Look whether a word of progress may be shown, and write it at any time after that."""
    me = world.daemons[d]
    number, _ = me.word
    if number < 0:
        if me.step == "started" and holds(world, me.job, me.token, rules):
            looked = me._replace(word=(me.job, me.token))
            yield (
                f"{d} looks whether it may show how far {me.job} is",
                with_daemon(world, d, looked),
            )
        return
    job = world.jobs[number]
    # Fenced, the write goes where the status stood that was looked at, or demands that it stands.
    late = job.ends > 0 and not rules.show_fenced
    after = with_job(world, number, job._replace(overwritten=job.overwritten or late))
    written = with_daemon(after, d, me._replace(word=(-1, 0)))
    yield f"{d} writes its word of progress on {number}", written
