-- The read model. Disposable: deleting the file rebuilds it from the log. Times are epoch microseconds.

CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

-- `doc` is the folded job; the other columns are what lists are filtered and ordered by. `ended_at` is that of a
-- job which may be archived, `erase_at` stands for it where a job says itself when it is to be erased, and `gone_at`
-- is when the broker lets go of the summary of one that was archived.
CREATE TABLE jobs (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    lane TEXT NOT NULL,
    priority INTEGER NOT NULL,
    worker TEXT,
    claimable_seq INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    wake_at INTEGER,
    ended_at INTEGER,
    erase_at INTEGER,
    gone_at INTEGER,
    seq INTEGER NOT NULL,
    doc BLOB NOT NULL
) WITHOUT ROWID;

CREATE TABLE labels (
    tenant TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    job_id TEXT NOT NULL,
    PRIMARY KEY (tenant, key, value, created_at, job_id)
) WITHOUT ROWID;

CREATE TABLE attempts (
    job_id TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    worker TEXT NOT NULL,
    fence INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    ended_at INTEGER,
    outcome TEXT,
    PRIMARY KEY (job_id, attempt)
) WITHOUT ROWID;

-- The jobs in state dead, with what their list is filtered by.
CREATE TABLE dead_letters (
    job_id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    kind TEXT NOT NULL,
    reason TEXT NOT NULL,
    code TEXT NOT NULL,
    ended_at INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) WITHOUT ROWID;

-- What the jobs that have not ended depend on: such jobs are not archived.
CREATE TABLE needs (
    parent TEXT NOT NULL,
    child TEXT NOT NULL,
    PRIMARY KEY (parent, child)
) WITHOUT ROWID;

CREATE TABLE counts (
    tenant TEXT NOT NULL,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    lane TEXT NOT NULL,
    priority INTEGER NOT NULL,
    jobs INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    PRIMARY KEY (tenant, kind, state, lane, priority)
) WITHOUT ROWID;

-- The jobs of each batch, by the state that they are in, or were when they were archived.
CREATE TABLE batches (
    tenant TEXT NOT NULL,
    batch TEXT NOT NULL,
    state TEXT NOT NULL,
    jobs INTEGER NOT NULL,
    PRIMARY KEY (tenant, batch, state)
) WITHOUT ROWID;

-- Jobs by the minute and the hour (`step_s`) in which they came and ended; `slot` says how long they waited or ran.
-- `at` is in epoch seconds.
CREATE TABLE series (
    tenant TEXT NOT NULL,
    step_s INTEGER NOT NULL,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    what TEXT NOT NULL,
    slot INTEGER NOT NULL,
    jobs INTEGER NOT NULL,
    PRIMARY KEY (tenant, step_s, at, kind, what, slot)
) WITHOUT ROWID;

-- What each tenant's jobs take of what all share: those that have not ended, what the blocked among them wait
-- for, and all that are not archived. One row is read where a sum over `counts` may be of thousands.
CREATE TABLE tenants (
    tenant TEXT PRIMARY KEY,
    open_jobs INTEGER NOT NULL,
    open_bytes INTEGER NOT NULL,
    waits INTEGER NOT NULL,
    jobs INTEGER NOT NULL,
    bytes INTEGER NOT NULL
) WITHOUT ROWID;

-- Sums over `attempts`, so that a job whose history is archived counts here no more than there.
CREATE TABLE workers (
    id TEXT PRIMARY KEY,
    running INTEGER NOT NULL,
    started INTEGER NOT NULL,
    succeeded INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    lost INTEGER NOT NULL
) WITHOUT ROWID;

-- Sums over the lines of the ledger. An amount is `hi` * 2^32 + `lo` millionths, so that no sum overflows.
CREATE TABLE usage (
    tenant TEXT NOT NULL,
    day INTEGER NOT NULL,
    key TEXT NOT NULL,
    kind TEXT NOT NULL,
    operation TEXT NOT NULL,
    engine TEXT NOT NULL,
    outcome TEXT NOT NULL,
    unit TEXT NOT NULL,
    hi INTEGER NOT NULL,
    lo INTEGER NOT NULL,
    lines INTEGER NOT NULL,
    apart_hi INTEGER NOT NULL,
    apart_lo INTEGER NOT NULL,
    cost_hi INTEGER NOT NULL,
    cost_lo INTEGER NOT NULL,
    terms TEXT NOT NULL,
    PRIMARY KEY (tenant, day, key, kind, operation, engine, outcome, unit)
) WITHOUT ROWID;

CREATE TABLE files (
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    type TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    created_at TEXT NOT NULL,
    expires_at TEXT NOT NULL,
    key TEXT NOT NULL,
    subject TEXT NOT NULL,
    PRIMARY KEY (tenant, id)
) WITHOUT ROWID;
