-- Made with an empty read model, and after the rows when one is rebuilt.

CREATE INDEX jobs_by_time ON jobs (created_at, id);
CREATE INDEX jobs_listed ON jobs (tenant, kind, state, created_at, id);
CREATE INDEX jobs_updated ON jobs (tenant, kind, state, updated_at, id);
-- What changed since somebody has looked.
CREATE INDEX jobs_changed ON jobs (tenant, seq);
-- `state` stands in it because SQLite would else look it up in every row.
CREATE INDEX jobs_waiting ON jobs (lane, priority, state, claimable_seq, tenant) WHERE state = 'queued';
CREATE INDEX jobs_due ON jobs (wake_at) WHERE wake_at IS NOT NULL;
CREATE INDEX jobs_blocked ON jobs (id) WHERE state = 'blocked';
CREATE INDEX jobs_ended ON jobs (tenant, kind, state, ended_at, id) WHERE ended_at IS NOT NULL;
CREATE INDEX jobs_erased ON jobs (erase_at, id) WHERE erase_at IS NOT NULL;
CREATE INDEX jobs_gone ON jobs (gone_at) WHERE gone_at IS NOT NULL;
CREATE INDEX jobs_running ON jobs (worker) WHERE state IN ('running', 'cancelling');
-- All that the list of dead letters is filtered by stands in its index.
CREATE INDEX dead_by_time ON dead_letters (ended_at, job_id, tenant, kind, reason, code, created_at);
CREATE INDEX dead_listed ON dead_letters (tenant, ended_at, job_id, kind, reason, code, created_at);
-- What each API key has submitted.
CREATE INDEX jobs_by_key ON labels (value, created_at) WHERE key = '@key';
CREATE INDEX counts_by_lane ON counts (lane, state, priority);
CREATE UNIQUE INDEX files_by_subject ON files (subject);
CREATE INDEX files_by_time ON files (tenant, created_at, id);
-- Number and bytes of a tenant's files are counted in it alone.
CREATE INDEX files_kept ON files (tenant, expires_at, size_bytes);
CREATE INDEX files_by_expiry ON files (expires_at);
