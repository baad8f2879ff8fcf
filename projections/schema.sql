-- The read model. Disposable: deleting the file rebuilds it from the log. Times are epoch microseconds.

CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

-- `doc` is the folded job; the other columns are what lists are filtered and ordered by.
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
    wake_at INTEGER,
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

CREATE TABLE counts (
    tenant TEXT NOT NULL,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    lane TEXT NOT NULL,
    priority INTEGER NOT NULL,
    jobs INTEGER NOT NULL,
    PRIMARY KEY (tenant, kind, state, lane, priority)
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
