
CREATE TABLE {schema}.meta (layout integer NOT NULL);
INSERT INTO {schema}.meta VALUES (0);
CREATE TABLE {schema}.bucket (
    id smallint PRIMARY KEY, revision bigint NOT NULL
) WITH (fillfactor = 10);
INSERT INTO {schema}.bucket SELECT id, 0 FROM generate_series(0, 15) AS id;
CREATE TABLE {schema}.entry (
    scope bytea NOT NULL,
    key bytea NOT NULL,
    long_scope bytea,
    long_key bytea,
    value bytea NOT NULL,
    place bigint NOT NULL,
    revision bigint NOT NULL,
    PRIMARY KEY (scope, key)
);
CREATE INDEX ON {schema}.entry (scope, place);
CREATE TABLE {schema}.change (
    bucket smallint NOT NULL,
    revision bigint NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    scope bytea NOT NULL,
    key bytea NOT NULL,
    long_scope bytea,
    long_key bytea,
    old bytea,
    new bytea,
    PRIMARY KEY (bucket, revision)
);
CREATE TABLE {schema}.writer (
    id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    fence integer NOT NULL DEFAULT 0,
    batch bigint NOT NULL DEFAULT 0,
    buckets smallint[] NOT NULL DEFAULT '{}',
    firsts bigint[] NOT NULL DEFAULT '{}',
    lasts bigint[] NOT NULL DEFAULT '{}',
    seen timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 10);

CREATE FUNCTION {schema}.write(
    p_writer bigint, p_fence integer, p_batch bigint,
    p_bucket smallint[], p_scope bytea[], p_key bytea[], p_long_scope bytea[], p_long_key bytea[],
    p_over boolean[], p_base bytea[], p_last bytea[], p_count integer[], p_made integer[],
    p_item integer[], p_step integer[], p_new bytea[]
) RETURNS TABLE (won boolean, first bigint, found bytea) LANGUAGE plpgsql VOLATILE AS $write$
#variable_conflict use_column
BEGIN
    -- An acknowledged write is on the disk, and at the synchronous standbys, whatever the default is here.
    IF current_setting('synchronous_commit') NOT IN ('on', 'remote_apply') THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    -- A batch of a connection that was given up for lost is not done any more.
    PERFORM FROM {schema}.writer w WHERE w.id = p_writer AND w.fence = p_fence FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'III01', MESSAGE = 'this writer is not known any more';
    END IF;
    -- In one order, so that no two batches wait for each other. Held until the commit.
    PERFORM FROM {schema}.bucket b WHERE b.id = ANY (p_bucket) ORDER BY b.id FOR NO KEY UPDATE;
    RETURN QUERY
    WITH asked AS (
        SELECT i.*, e.value AS held, e.place AS held_place,
               i.over OR e.value IS NOT DISTINCT FROM i.base AS won
        FROM unnest(p_bucket, p_scope, p_key, p_long_scope, p_long_key, p_over, p_base, p_last, p_count,
                    p_made) WITH ORDINALITY
             AS i (bucket, scope, key, long_scope, long_key, over, base, last, count, made, n)
        LEFT JOIN {schema}.entry e ON e.scope = i.scope AND e.key = i.key
    ), done AS (
        SELECT a.*, b.revision + 1 - a.count
                    + sum(a.count) OVER (PARTITION BY a.bucket ORDER BY a.n) AS first
        FROM asked a JOIN {schema}.bucket b ON b.id = a.bucket WHERE a.won
    ), kept AS (
        INSERT INTO {schema}.entry AS e (scope, key, long_scope, long_key, value, place, revision)
        SELECT d.scope, d.key, d.long_scope, d.long_key, d.last,
               CASE WHEN d.made IS NULL THEN coalesce(d.held_place, d.first) ELSE d.first + d.made END,
               d.first + d.count - 1
        FROM done d WHERE d.last IS NOT NULL
        ON CONFLICT (scope, key) DO UPDATE
        SET value = excluded.value, place = excluded.place, revision = excluded.revision
    ), gone AS (
        DELETE FROM {schema}.entry e USING done d
        WHERE d.last IS NULL AND e.scope = d.scope AND e.key = d.key
    ), steps AS (
        SELECT d.n, d.count - 1 AS step, d.last AS new FROM done d
        UNION ALL
        SELECT s.item, s.step, s.new FROM unnest(p_item, p_step, p_new) AS s (item, step, new)
        JOIN done d ON d.n = s.item
    ), logged AS (
        INSERT INTO {schema}.change (bucket, revision, scope, key, long_scope, long_key, old, new)
        SELECT d.bucket, d.first + s.step, d.scope, d.key, d.long_scope, d.long_key,
               CASE WHEN s.step = 0 THEN d.held
                    ELSE lag(s.new) OVER (PARTITION BY s.n ORDER BY s.step) END,
               s.new
        FROM steps s JOIN done d ON d.n = s.n
    ), counted AS (
        UPDATE {schema}.bucket b SET revision = b.revision + t.total
        FROM (SELECT d.bucket, sum(d.count)::bigint AS total FROM done d GROUP BY d.bucket) t
        WHERE b.id = t.bucket
        RETURNING b.id, b.revision - t.total + 1 AS first, b.revision AS last
    ), noted AS (
        UPDATE {schema}.writer w
        SET batch = p_batch, buckets = c.ids, firsts = c.firsts, lasts = c.lasts, seen = now()
        FROM (SELECT coalesce(array_agg(id), '{}') AS ids, coalesce(array_agg(first), '{}') AS firsts,
                     coalesce(array_agg(last), '{}') AS lasts FROM counted) c
        WHERE w.id = p_writer
    )
    SELECT a.won, d.first::bigint, CASE WHEN a.over OR NOT a.won THEN a.held END
    FROM asked a LEFT JOIN done d ON d.n = a.n ORDER BY a.n;
    -- One for the whole batch, and only a wake-up: it tells nothing but that there is something to read.
    PERFORM pg_notify('{schema}', '');
END
$write$;
