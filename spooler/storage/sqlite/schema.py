"""The tables, and every statement that is ever sent to them.

A row of `jobs` is small and changes often; what can be large stands in `requests` and `reports`
and is written once. The indexes hold open jobs only, so that claiming stays as fast as it was
however many jobs have ended: a test asks SQLite for the plan of every statement below.
"""

from __future__ import annotations

#: "spol", in the header of the file: which program it belongs to.
APPLICATION = 0x73706F6C
#: The edition of the tables, in the header as well.
EDITION = 1

TABLES = """
CREATE TABLE jobs (
    number       INTEGER PRIMARY KEY AUTOINCREMENT,     -- the order of submission
    queue        TEXT NOT NULL,
    id           TEXT NOT NULL,
    submitted_at TEXT NOT NULL,
    submitter    TEXT NOT NULL,
    state        TEXT NOT NULL DEFAULT 'queued'
                 CHECK (state IN ('queued', 'running', 'done', 'error', 'cancelled')),
    cancelled    INTEGER NOT NULL DEFAULT 0,            -- its submitter has withdrawn it
    detail       TEXT NOT NULL DEFAULT '',              -- progress, and in the end the reason
    started_at   TEXT,                                  -- of this attempt, where it has started
    finished_at  TEXT,
    held_since   REAL NOT NULL DEFAULT 0,               -- a job given back waits from here ...
    held_until   REAL NOT NULL DEFAULT 0,               -- ... to here
    attempt      INTEGER,                               -- from here on: who holds it
    token        TEXT,
    host         TEXT,
    pid          INTEGER,
    process      TEXT,
    estate       TEXT,
    ttl          REAL,
    renewals     INTEGER NOT NULL DEFAULT 0,
    UNIQUE (queue, id)
);
CREATE INDEX waiting ON jobs (queue, number) WHERE state = 'queued';
CREATE INDEX running ON jobs (queue, number) WHERE state = 'running';

CREATE TABLE requests (
    job     INTEGER PRIMARY KEY REFERENCES jobs ON DELETE CASCADE,
    payload BLOB NOT NULL CHECK (typeof(payload) = 'blob')
);
CREATE TABLE attempts (
    job     INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,
    number  INTEGER NOT NULL,
    owner   TEXT NOT NULL,
    at      TEXT NOT NULL,
    ended   TEXT NOT NULL,
    started INTEGER NOT NULL,
    PRIMARY KEY (job, number)
) WITHOUT ROWID;
CREATE TABLE reports (
    job    INTEGER PRIMARY KEY REFERENCES jobs ON DELETE CASCADE,
    report BLOB NOT NULL,                               -- as model.records writes it
    jws    TEXT NOT NULL                                -- '' where the daemon has no key
);

CREATE TABLE devices (
    name      TEXT PRIMARY KEY,
    card      TEXT NOT NULL,                            -- JSON
    last_seen TEXT NOT NULL,
    kid       TEXT NOT NULL                             -- '' where the daemon has no key
);
CREATE TABLE keys (
    device TEXT NOT NULL REFERENCES devices ON DELETE CASCADE,
    kid    TEXT NOT NULL,
    jwk    TEXT NOT NULL,                               -- the public key of now, or a former one
    PRIMARY KEY (device, kid)
);
"""

# --- the daemon's verbs ----------------------------------------------------------------------

OWN_CLAIM = """
SELECT number FROM jobs WHERE queue = :queue AND state = 'running' AND token = :token
"""

#: A clock that was set back to before the wait began ends the wait: see SqliteBackend.release.
OLDEST_FIRST = """
SELECT number FROM jobs
WHERE queue = :queue AND state = 'queued' AND (held_until <= :now OR :now < held_since)
ORDER BY number
"""

TAKE = """
UPDATE jobs
SET state = 'running', token = :token, host = :host, pid = :pid, process = :process,
    estate = :estate, ttl = :ttl, renewals = 0, started_at = NULL, detail = '',
    attempt = 1 + coalesce((SELECT max(number) FROM attempts WHERE job = jobs.number), 0)
WHERE number = :number AND state = 'queued'
"""

EXTEND = """
UPDATE jobs SET renewals = renewals + 1, started_at = coalesce(started_at, :started_at)
WHERE queue = :queue AND id = :id
  AND token = :token AND attempt = :attempt AND state = 'running'
"""

SHOW = """
UPDATE jobs SET detail = :text
WHERE queue = :queue AND id = :id
  AND token = :token AND attempt = :attempt AND state = 'running'
"""

END = """
UPDATE jobs SET state = :state, detail = :reason, started_at = :started, finished_at = :finished
WHERE queue = :queue AND id = :id
  AND token = :token AND attempt = :attempt AND state = 'running'
"""

KEEP_REPORT = """
INSERT INTO reports (job, report, jws)
SELECT number, :report, :jws FROM jobs WHERE queue = :queue AND id = :id
"""

NOTE_ATTEMPT = """
INSERT INTO attempts (job, number, owner, at, ended, started)
SELECT number, attempt, :owner, :at, :reason, started_at IS NOT NULL FROM jobs
WHERE queue = :queue AND id = :id
  AND token = :token AND attempt = :attempt AND state = 'running'
"""

GIVE_BACK = """
UPDATE jobs
SET state = 'queued', token = NULL, started_at = NULL, detail = '',
    held_since = :since, held_until = :until
WHERE queue = :queue AND id = :id
  AND token = :token AND attempt = :attempt AND state = 'running'
"""

OPEN_CLAIMS = """
SELECT number, token, renewals, ttl FROM jobs
WHERE queue = :queue AND state = 'running' ORDER BY number
"""

#: Nobody has renewed or taken it since the look that `renewals` and `token` come from.
TAKE_OVER = """
UPDATE jobs
SET token = :token, host = :host, pid = :pid, process = :process, estate = :estate, ttl = :ttl,
    renewals = 0
WHERE number = :number AND token = :seen_token AND renewals = :seen_renewals
  AND state = 'running'
"""

DEPTH = """
SELECT count(*) FROM jobs WHERE queue = :queue AND state = 'queued'
"""

# --- rows ------------------------------------------------------------------------------------

#: A request that is larger than `limit` is not read.
JOB = """
SELECT jobs.*, length(payload) AS size, CASE WHEN length(payload) <= :limit THEN payload END
       AS payload
FROM jobs JOIN requests ON requests.job = jobs.number WHERE jobs.number = :number
"""

HISTORY = """
SELECT number, owner, at, ended, started FROM attempts WHERE job = :number ORDER BY number
"""

STANDING = """
SELECT * FROM jobs WHERE queue = :queue AND id = :id
"""

# --- the submitter's verbs -------------------------------------------------------------------

ADD_JOB = """
INSERT INTO jobs (queue, id, submitted_at, submitter) VALUES (:queue, :id, :at, :submitter)
"""

ADD_REQUEST = """
INSERT INTO requests (job, payload) VALUES (last_insert_rowid(), :payload)
"""

REQUEST = """
SELECT payload FROM requests JOIN jobs ON requests.job = jobs.number
WHERE jobs.queue = :queue AND jobs.id = :id
"""

WITHDRAW = """
UPDATE jobs SET cancelled = 1 WHERE queue = :queue AND id = :id
"""

REPORT = """
SELECT report, jws FROM jobs JOIN reports ON reports.job = jobs.number
WHERE queue = :queue AND id = :id
"""

# --- the catalogue ---------------------------------------------------------------------------

ANNOUNCE = """
INSERT INTO devices (name, card, last_seen, kid) VALUES (:device, :card, :at, :kid)
ON CONFLICT (name) DO UPDATE
SET card = excluded.card, last_seen = excluded.last_seen, kid = excluded.kid
"""

KEEP_KEY = """
INSERT INTO keys (device, kid, jwk) VALUES (:device, :kid, :jwk) ON CONFLICT DO NOTHING
"""

ANNOUNCED_KEY = """
SELECT keys.kid, jwk FROM devices JOIN keys ON keys.device = name AND keys.kid = devices.kid
WHERE name = :device
"""

KEYS = """
SELECT kid, jwk FROM keys WHERE device = :device
"""

DEVICES = """
SELECT name, card, last_seen FROM devices ORDER BY name
"""
