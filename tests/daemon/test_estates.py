"""Who can lock what a process leaves behind knows that it is dead; nothing else is a proof."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from spooler.app.parts import report_signer, this_process
from spooler.model.claim import Claim, Owner
from spooler.model.job import key_of
from spooler.model.state import State
from spooler.model.storage import Standing
from spooler.observe.events import EventName
from spooler.signing.keys import generate
from spooler.storage.memory import MemoryStorage
from spooler.testing.bench import DEVICE, TTL, other_owner
from tests.daemon.parts import PATIENCE, Parts

STORAGE = key_of("memory:memory")


@pytest.fixture
def other(parts: Parts) -> Parts:
    """A daemon with a state folder of its own, beside that of `parts`."""
    return parts.beside(state_name="other")


def left_behind(parts: Parts) -> str:
    """A report that `parts` could not bring, and its death; the job."""
    job = parts.submit()
    parts.backend.away = True
    parts.finish(parts.hold().claim, {"value": 7})
    parts.desk.die()
    return job


def estate(parts: Parts) -> Path:
    return Path(parts.owner.estate)


# --- a dead process --------------------------------------------------------------------------


def test_a_report_of_the_dead_is_delivered_in_place_and_its_claim_spared(
    parts: Parts, other: Parts
) -> None:
    job = left_behind(parts)
    before = {place.name for place in parts.records.folder.iterdir()}
    other.backend.refused = {"ack"}
    for _ in range(10):
        other.recovery.run(other.desk.served)
        other.outage.over()
        other.clock.advance(TTL / 2)
        other.leases.renew_due()
    assert other.told(EventName.JOB_REQUEUED) == []
    assert other.told(EventName.JOB_FAILED) == [], "nobody decides about a job with a report"
    assert {place.name for place in parts.records.folder.iterdir()} == before, "it stays in place"
    other.backend.refused = set()
    other.recovery.run(other.desk.served)
    assert other.state_of(job) is State.DONE
    assert other.submitter.result(DEVICE, job).data == {"value": 7}


def test_what_the_dead_held_without_a_record_is_taken_over_at_once(
    parts: Parts, other: Parts
) -> None:
    job = parts.submit()
    parts.claim()
    parts.desk.die()
    assert other.desk.recover() == 1
    assert other.state_of(job) is State.QUEUED
    other.clock.advance(3600)
    assert other.claim().attempt == 2


def test_what_was_left_in_our_own_state_folder_is_taken_up_before_anything_is_claimed(
    parts: Parts,
) -> None:
    job = left_behind(parts)
    later = parts.later_of_the_dead()
    later.recovery.adopt()
    assert later.delivery.waiting == 1
    later.desk.housekeeper.begin()
    assert later.state_of(job) is State.DONE


def test_an_estate_is_let_go_when_nothing_is_left(parts: Parts, other: Parts) -> None:
    left_behind(parts)
    other.recovery.run(other.desk.served)
    other.recovery.run(other.desk.served)
    assert other.delivery.waiting == 0
    other.recovery.run(other.desk.served)
    assert not estate(parts).exists()
    assert (parts.state / "records").is_dir()


def test_an_estate_is_not_let_go_before_its_claims_are_settled(parts: Parts, other: Parts) -> None:
    """Its lock is the only proof of death that there is."""
    job = parts.submit()
    parts.claim()
    parts.desk.die()
    other.backend.refused = {"release"}
    other.recovery.run(other.desk.served)
    assert estate(parts).is_dir()
    other.backend.refused = set()
    other.outage.over()
    other.clock.advance(60.0)
    other.recovery.run(other.desk.served)
    assert other.state_of(job) is State.QUEUED
    assert not estate(parts).exists()


def test_only_one_of_two_cares_for_an_estate(parts: Parts, other: Parts) -> None:
    parts.submit()
    claim = parts.claim()
    parts.desk.die()
    third = parts.beside(state_name="third")
    assert other.estates.standing(claim) is Standing.DEAD
    assert third.estates.standing(claim) is Standing.LEASED
    other.desk.die()
    assert third.estates.standing(claim) is Standing.LEASED, "it is still in other hands"


def test_an_estate_is_shared_out_by_storage(parts: Parts, other: Parts) -> None:
    """Who serves one of its storages cares for that part, and leaves the rest to others."""
    frb = MemoryStorage("frb")
    desk = parts.add("frb", frb)
    desk.submitter.submit(DEVICE, {})
    claim = desk.claim()
    job = left_behind(parts)
    desk.die()
    other.recovery.run(other.desk.served)
    other.recovery.run(other.desk.served)
    assert other.state_of(job) is State.DONE
    other.recovery.run(other.desk.served)
    assert not parts.records.folder.exists()
    assert desk.records.folder.exists()
    third = parts.beside(state_name="third", storage=frb)
    assert third.estates.standing(claim) is Standing.DEAD


def test_a_lock_that_somebody_has_deleted_proves_nothing(parts: Parts, other: Parts) -> None:
    """Whoever tidies up a `lock` file, or the whole folder, kills no process."""
    parts.submit()
    claim = parts.claim()
    (parts.records.folder / "lock").unlink()
    assert other.estates.standing(claim) is Standing.LEASED
    assert not (parts.records.folder / "lock").exists(), "nothing is made in somebody's estate"


def test_what_lies_in_an_estate_without_a_lock_is_delivered_and_proves_nothing(
    parts: Parts,
) -> None:
    """The state folder was removed and made again: two daemons may have it at once."""
    reported = left_behind(parts)
    parts.backend.away = False
    parts.submit()
    claim = parts.claim()
    (parts.records.folder / "lock").unlink()
    later = parts.later_of_the_dead()
    later.recovery.run(later.desk.served)
    assert later.state_of(reported) is State.DONE
    assert later.told(EventName.JOB_REQUEUED) == []
    assert later.estates.standing(claim) is Standing.LEASED


@pytest.mark.parametrize("kind", ["folder", "link", "closed"])
def test_a_file_that_cannot_be_read_keeps_no_report_from_its_storage(
    parts: Parts, other: Parts, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    parts.submit()
    claim = parts.claim()
    job = left_behind(parts)
    place = parts.records.folder / f"{claim.token}.json"
    if kind == "folder":
        place.mkdir()
    elif kind == "link":
        place.symlink_to("/nowhere")
    else:
        place.write_bytes(b"{}")
        opened = os.open

        def closed(path: str | Path, *args: int, **kwargs: int) -> int:
            if os.fspath(path) == os.fspath(place):
                raise PermissionError(13, "Permission denied", str(path))
            return opened(path, *args, **kwargs)

        monkeypatch.setattr("spooler.durable.os.open", closed)
    other.recovery.run(other.desk.served)
    other.recovery.run(other.desk.served)
    assert other.told(EventName.JOB_REQUEUED) == [], "that file may be the report of a claim"
    assert other.estates.standing(claim) is Standing.LEASED
    assert [where for where, _ in other.unreadable] == [place], "and it is told of, once"
    assert other.state_of(job) is State.DONE


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_what_another_user_has_left_in_our_state_folder_is_told_of(parts: Parts) -> None:
    """Somebody has run the daemon with sudo, once: its reports must not wait in silence."""
    left_behind(parts)
    os.chown(parts.records.folder, 4711, -1)
    later = parts.later_of_the_dead()
    for _ in range(3):
        later.recovery.run(later.desk.served)
    assert [place for place, _ in later.unreadable] == [parts.records.folder]
    os.chown(parts.records.folder, os.geteuid(), -1)
    later.recovery.run(later.desk.served)
    assert later.told(EventName.REPORT_DELIVERED)


# --- a living process ------------------------------------------------------------------------

HOLDER = """
import sys
from pathlib import Path
from spooler.daemon.claims.records import Records
Records(Path(sys.argv[1])).open()
print("open", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def living(parts: Parts) -> Iterator[tuple[Owner, subprocess.Popen[str]]]:
    """Another process, which has the folder of its records locked."""
    owner = this_process(parts.folder / "living")
    command = [sys.executable, "-c", HOLDER, f"{owner.estate}/{STORAGE}"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield owner, process
        process.kill()
        process.wait(PATIENCE)


def test_the_lease_decides_about_a_process_that_lives_and_death_is_seen_at_once(
    parts: Parts, living: tuple[Owner, subprocess.Popen[str]]
) -> None:
    owner, process = living
    parts.submit()
    claim = parts.claim(owner)
    assert parts.estates.standing(claim) is Standing.LEASED
    assert parts.desk.recover() == 0
    process.kill()
    process.wait(PATIENCE)
    assert parts.estates.standing(claim) is Standing.DEAD
    assert parts.desk.recover() == 1


def test_the_lease_of_a_process_that_lives_runs_out_like_any_other(
    parts: Parts, living: tuple[Owner, subprocess.Popen[str]]
) -> None:
    parts.submit()
    parts.claim(living[0])
    parts.clock.advance(TTL + 1)
    assert parts.desk.recover() == 1


def test_our_own_process_is_never_judged_dead(parts: Parts) -> None:
    parts.submit()
    claim = parts.claim()
    assert parts.estates.standing(claim) is Standing.LEASED
    assert parts.desk.recover() == 0
    parts.hold_again(claim)
    parts.clock.advance(TTL + 1)
    assert parts.desk.recover() == 0, "and what we hold is spared"


def test_our_own_process_is_not_dead_either_when_it_has_let_its_lock_go(parts: Parts) -> None:
    """At the end its last claims are somebody's still."""
    parts.submit()
    parts.backend.away = True
    parts.finish(parts.hold().claim)
    parts.submit()
    other_claim = parts.claim()
    parts.records.let_go()
    assert parts.records.folder.is_dir()
    assert parts.estates.standing(other_claim) is Standing.LEASED


def test_our_own_records_are_spared(parts: Parts) -> None:
    parts.submit()
    parts.backend.away = True
    claim = parts.hold().claim
    parts.finish(claim)
    parts.leases.drop(claim.token)
    parts.backend.away = False
    parts.outage.over()
    parts.clock.advance(TTL + 10)
    assert parts.desk.recover() == 0


# --- what a stranger may have written --------------------------------------------------------


def make_estate(at: Path, process: str) -> Path:
    """The folders of an estate as a dead process leaves them."""
    made = at / "records" / process
    (made / STORAGE).mkdir(parents=True)
    (made / STORAGE / "lock").touch()
    return made


def link(at: Path, to: Path) -> Path:
    at.parent.mkdir(parents=True, exist_ok=True)
    at.symlink_to(to, target_is_directory=True)
    return at


def outside(root: Path, name: str) -> Path:
    return make_estate(root / "far" / "away", name)


def beside(root: Path, name: str) -> Path:
    return make_estate(root / "beside", name)


def a_link_for_the_state(root: Path, name: str) -> str:
    state = outside(root, name).parent.parent
    return f"{link(root / 'linked', state)}/records/{name}"


def a_link_for_the_records(root: Path, name: str) -> str:
    records = outside(root, name).parent
    return f"{link(root / 'linked' / 'records', records)}/{name}"


def a_link_for_the_process(root: Path, name: str) -> str:
    return str(link(root / "linked" / "records" / name, outside(root, name)))


def a_link_for_the_storage(root: Path, name: str) -> str:
    folder = outside(root, name) / STORAGE
    return str(link(root / "linked" / "records" / name / STORAGE, folder).parent)


def of_another_user(root: Path, name: str) -> str:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    made = beside(root, name)
    os.chown(made, 4711, 4711)
    return str(made)


def with_a_file_inside(root: Path, name: str) -> str:
    made = beside(root, name)
    (made / STORAGE / "lock").unlink()
    (made / STORAGE).rmdir()
    (made / STORAGE).write_text("no folder")
    return str(made)


def not_below_records(root: Path, name: str) -> str:
    return f"{beside(root, name).parent.rename(root / 'beside' / 'notes')}/{name}"


#: Places that a claim may name, by what is wrong with them.
STRANGE: dict[str, Callable[[Path, str], str]] = {
    "outside the roots": lambda root, name: str(outside(root, name)),
    "deeper": lambda root, name: str(make_estate(root / "beside" / "deeper", name)),
    "a link for the state": a_link_for_the_state,
    "a link for the records": a_link_for_the_records,
    "a link for the process": a_link_for_the_process,
    "a link for the storage": a_link_for_the_storage,
    "dots": lambda root, name: f"{root}/beside/../beside/records/{beside(root, name).name}",
    "dots at the end": lambda root, name: f"{beside(root, name).parent}/../records/{name}",
    "a doubled slash": lambda root, name: f"/{beside(root, name)}",
    "a closing slash": lambda root, name: f"{beside(root, name)}/",
    "another process": lambda root, name: str(beside(root, name + "x")),
    "not below records": not_below_records,
    "relative": lambda root, name: os.path.relpath(beside(root, name)),
    "NUL": lambda root, name: f"{beside(root, name)}\0",
    "of another user": of_another_user,
    "with a file inside": with_a_file_inside,
    "missing": lambda root, name: f"{root}/beside/records/{name}",
    "none": lambda *_: "",
    "root": lambda *_: "/",
}


@pytest.mark.parametrize("wrong", list(STRANGE))
def test_the_lease_decides_and_nothing_is_opened_or_created(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    monkeypatch.chdir(tmp_path)
    stranger = other_owner()
    place = STRANGE[wrong](tmp_path, stranger.process)
    parts.submit()
    claim = parts.claim(replace(stranger, estate=place))
    before = sorted(tmp_path.rglob("*"))
    assert parts.estates.standing(claim) is Standing.LEASED
    assert parts.desk.recover() == 0
    assert sorted(tmp_path.rglob("*")) == before
    parts.clock.advance(TTL + 1)
    assert parts.desk.recover() == 1, "it runs out like any other"


def test_a_place_without_fault_counts(parts: Parts, tmp_path: Path) -> None:
    """The counter-check: the places above differ from this one in their fault alone."""
    stranger = other_owner()
    place = make_estate(tmp_path / "beside", stranger.process)
    parts.submit()
    claim = parts.claim(replace(stranger, estate=str(place)))
    assert parts.estates.standing(claim) is Standing.DEAD


def namesake(root: Path, name: str, state: str = "state") -> Path:
    """The estate of a daemon whose whole folder lies beside ours."""
    return make_estate(root.parent / f"{root.name}-beside" / state, name)


def test_a_state_called_like_ours_in_the_next_folder_counts(parts: Parts, tmp_path: Path) -> None:
    """`a/spooler-state` and `b/spooler-state`: each daemon has its settings in a folder."""
    stranger = other_owner()
    place = namesake(tmp_path, stranger.process)
    parts.submit()
    claim = parts.claim(replace(stranger, estate=str(place)))
    assert parts.estates.standing(claim) is Standing.DEAD


@pytest.mark.parametrize("wrong", ["another name", "a link", "another user"])
def test_a_state_in_the_next_folder_that_is_not_ours_does_not(
    parts: Parts, tmp_path: Path, wrong: str
) -> None:
    stranger = other_owner()
    place = namesake(tmp_path, stranger.process, "away" if wrong == "another name" else "state")
    folder = place.parent.parent.parent
    if wrong == "a link":
        target = folder.rename(tmp_path / "target")
        folder.symlink_to(target, target_is_directory=True)
    elif wrong == "another user":
        if os.geteuid() != 0:
            pytest.skip("only root can give a folder away")
        os.chown(folder, 4711, 4711)
    parts.submit()
    claim = parts.claim(replace(stranger, estate=str(place)))
    assert parts.estates.standing(claim) is Standing.LEASED


def unsigned(parts: Parts) -> None:
    parts.sign = report_signer(None)


def of_a_foreign_key(parts: Parts) -> None:
    parts.sign = report_signer(generate("foreign"))


def forged(parts: Parts) -> None:
    genuine = parts.sign

    def sign(report):  # type: ignore[no-untyped-def]
        head, body, signature = genuine(report).jws.split(".")
        other = genuine(replace(report, attempt=99)).jws.split(".")[1]
        assert body != other
        return type(genuine(report))(report, f"{head}.{other}.{signature}")

    parts.sign = sign


def of_another_job(parts: Parts) -> None:
    """Genuine, and not what was measured for this job."""
    genuine = parts.sign
    parts.sign = lambda report: genuine(replace(report, job_id="f" * 24))


@pytest.mark.parametrize("spoil", [unsigned, of_a_foreign_key, forged, of_another_job])
@pytest.mark.parametrize("own_state", [True, False], ids=["own state", "other state"])
def test_a_report_that_none_of_our_keys_has_signed_is_not_delivered(
    parts: Parts, spoil: Callable[[Parts], None], *, own_state: bool
) -> None:
    spoil(parts)
    job = left_behind(parts)
    (record,) = parts.records.folder.glob("*.json")
    content = record.read_bytes()
    (claim,) = claims(parts)
    next_one = parts.later_of_the_dead() if own_state else parts.beside(state_name="other")
    for _ in range(5):
        next_one.recovery.run(next_one.desk.served)
    assert next_one.estates.standing(claim) is Standing.LEASED, "not dead: there may be a result"
    assert next_one.state_of(job) is State.RUNNING
    assert [path for path, _ in next_one.unreadable] == [record], "told once"
    why = "about another job" if spoil is of_another_job else "not signed by a key of this daemon"
    assert why in next_one.unreadable[0][1]
    assert "ack" not in next_one.backend.calls
    assert record.read_bytes() == content, "it stays for people to look at"
    next_one.clock.advance(TTL + 1)
    next_one.recovery.run(next_one.desk.served)
    assert next_one.state_of(job) is State.QUEUED, "its lease has run out"
    assert record.read_bytes() == content


def claims(parts: Parts) -> list[Claim]:
    return [each.claim for each in parts.storage.entries.values() if each.claim is not None]


def test_an_estate_that_somebody_removes_is_made_anew_with_all_that_is_known(parts: Parts) -> None:
    """Nobody can prove our death meanwhile, and no report is lost with the files."""
    job = parts.submit()
    parts.backend.away = True
    parts.finish(parts.hold().claim, {"value": 7})
    assert not parts.estates.restore()
    shutil.rmtree(parts.state)
    assert parts.estates.restore()
    assert not parts.estates.restore()
    parts.desk.die()
    parts.backend.away = False
    later = parts.later_of_the_dead()
    later.recovery.run(later.desk.served)
    assert later.state_of(job) is State.DONE
