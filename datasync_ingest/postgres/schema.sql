-- The tables of one source, in a schema of their own ({schema} stands for its name). Created once, in one transaction,
-- by the run that finds `ingest_source` missing there.
-- Ids are text because other deployments of the API do not use UUIDs; COLLATE "C" makes their index a byte order.

CREATE TABLE {schema}.ingest_source (
    only_row       boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    source         text NOT NULL,                          -- the API's base URL
    database_id    uuid NOT NULL DEFAULT gen_random_uuid(), -- tells this database from a restored or another one
    schema_version integer NOT NULL DEFAULT 2,
    created_at     timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE {schema}.ingested_events (
    id          text COLLATE "C" PRIMARY KEY,
    session_id  text,
    user_id     text,
    type        text,
    name        text,
    properties  jsonb,
    occurred_at timestamptz,
    device_type text,
    browser     text,
    extra       jsonb
);

-- One row per page, committed together with the page's events: what the sidecar is held against and rebuilt from.
CREATE TABLE {schema}.ingested_pages (
    walk           uuid NOT NULL,
    sequence       integer NOT NULL,
    cursor         text,             -- asked with; NULL for the first page of a walk from the start
    next_cursor    text,
    ends_walk      boolean NOT NULL,
    page_limit     integer NOT NULL,
    received       integer NOT NULL,
    inserted       integer NOT NULL,
    already_there  integer NOT NULL,
    rejected       integer NOT NULL,
    repaired       integer NOT NULL,
    after_position text,             -- the last position of the page before, "timestamp_ms:id"
    first_position text,
    last_position  text,
    committed_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    sweep          uuid,             -- the walk whose window in time the page is of, `walk` is then the window's chain
    since_ms       bigint,           -- the window, epoch milliseconds, inclusive; NULL: open at that end
    until_ms       bigint,
    PRIMARY KEY (walk, sequence)
);

-- Events without a usable id, byte for byte as they were served.
CREATE TABLE {schema}.rejected_events (
    walk        uuid NOT NULL,
    sequence    integer NOT NULL,
    position    integer NOT NULL,
    reason      text NOT NULL,
    raw         bytea NOT NULL,
    rejected_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (walk, sequence, position)
);

-- Events of which a value was not kept as it came, byte for byte as they were served.
CREATE TABLE {schema}.repaired_events (
    walk        uuid NOT NULL,
    sequence    integer NOT NULL,
    position    integer NOT NULL,
    event_id    text COLLATE "C" NOT NULL,
    reason      text NOT NULL,
    raw         bytea NOT NULL,
    repaired_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (walk, sequence, position)
);
