-- What was deleted long ago of what comes and goes is looked for once a minute.
CREATE INDEX tombstones_at ON tombstones (at) WHERE noun IN ('idempotency', 'locks', 'plans');
