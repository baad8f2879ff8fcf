-- Made with an empty read model, and after the rows when one is rebuilt.

CREATE INDEX jobs_by_time ON jobs (tenant, created_at, id);
CREATE INDEX jobs_by_state ON jobs (state, tenant, created_at, id);
CREATE INDEX jobs_waiting ON jobs (lane, priority, claimable_seq) WHERE state = 'queued';
CREATE INDEX jobs_due ON jobs (wake_at) WHERE wake_at IS NOT NULL;
CREATE INDEX jobs_running ON jobs (worker) WHERE state IN ('running', 'cancelling');
CREATE UNIQUE INDEX files_by_subject ON files (subject);
