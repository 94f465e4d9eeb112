
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

ALTER TABLE {schema}.meta ADD COLUMN store text NOT NULL DEFAULT '';
UPDATE {schema}.meta SET store = substr(md5(random()::text || clock_timestamp()::text), 1, 12);
ALTER TABLE {schema}.bucket
    ADD COLUMN bytes bigint NOT NULL DEFAULT 0, ADD COLUMN owner bigint,
    ADD COLUMN since bigint NOT NULL DEFAULT 0, ADD COLUMN edits bigint NOT NULL DEFAULT 0;
INSERT INTO {schema}.bucket (id, revision)
SELECT id, (SELECT max(revision) FROM {schema}.bucket) FROM generate_series(16, 23) AS id;
ALTER TABLE {schema}.entry SET (fillfactor = 80);
ALTER TABLE {schema}.change ADD COLUMN upto bigint NOT NULL DEFAULT 0;
UPDATE {schema}.change c SET upto = s.upto FROM (
    SELECT bucket, revision, sum(coalesce(octet_length(old), 0) + coalesce(octet_length(new), 0))
        OVER (PARTITION BY bucket ORDER BY revision) AS upto
    FROM {schema}.change
) s WHERE s.bucket = c.bucket AND s.revision = c.revision;
UPDATE {schema}.bucket b
SET bytes = coalesce((SELECT max(c.upto) FROM {schema}.change c WHERE c.bucket = b.id), 0);
DROP FUNCTION IF EXISTS {schema}.write(
    bigint, integer, bigint, smallint[], bytea[], bytea[], bytea[], bytea[], boolean[], bytea[], bytea[],
    integer[], integer[], integer[], integer[], bytea[]
);

CREATE FUNCTION {schema}.write(
    p_writer bigint, p_fence integer, p_batch bigint, p_ids smallint[],
    p_bucket smallint[], p_scope bytea[], p_key bytea[], p_long_scope bytea[], p_long_key bytea[],
    p_over boolean[], p_base bytea[], p_last bytea[],
    p_count integer[], p_item integer[], p_step integer[], p_new bytea[]
) RETURNS TABLE (first bigint, found bytea, lost bigint)
LANGUAGE plpgsql VOLATILE SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $write$
#variable_conflict use_column
DECLARE
    v_firsts bigint[];
    v_won integer;
BEGIN
    -- An acknowledged write is on the disk, and at the synchronous standbys, whatever the default is here.
    IF current_setting('synchronous_commit') NOT IN ('on', 'remote_apply') THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    PERFORM set_config('iii.writing', 'on', true);
    -- In one order, so that no two batches wait for each other. Held until the commit.
    SELECT array_agg(l.revision + 1) INTO v_firsts FROM (
        SELECT b.revision FROM {schema}.bucket b WHERE b.id = ANY (p_ids) ORDER BY b.id FOR NO KEY UPDATE
    ) l;
    IF cardinality(p_count) = 0 THEN
        RETURN QUERY
    WITH done AS (
        INSERT INTO {schema}.change AS c
            (bucket, revision, scope, key, long_scope, long_key, old, new, upto)
        SELECT i.bucket, b.revision + row_number() OVER w, i.scope, i.key, i.long_scope, i.long_key, e.value,
               i.last, b.bytes
                       + sum(coalesce(octet_length(e.value), 0) + coalesce(octet_length(i.last), 0)) OVER w
        FROM unnest(p_bucket, p_scope, p_key, p_long_scope, p_long_key, p_over, p_base, p_last)
             WITH ORDINALITY AS i (bucket, scope, key, long_scope, long_key, over, base, last, n)
        JOIN {schema}.bucket b ON b.id = i.bucket
        LEFT JOIN {schema}.entry e ON e.scope = i.scope AND e.key = i.key
        WHERE i.over OR e.value IS NOT DISTINCT FROM i.base
        WINDOW w AS (PARTITION BY i.bucket ORDER BY i.n ROWS UNBOUNDED PRECEDING)
        RETURNING c.*
    ), kept AS (
        INSERT INTO {schema}.entry AS e (scope, key, long_scope, long_key, value, place, revision)
        SELECT d.scope, d.key, d.long_scope, d.long_key, d.new,
               CASE WHEN d.old IS NULL THEN d.revision ELSE 0 END, d.revision
        FROM done d WHERE d.new IS NOT NULL
        ON CONFLICT (scope, key) DO UPDATE
        SET value = excluded.value, revision = excluded.revision,
            place = CASE excluded.place WHEN 0 THEN e.place ELSE excluded.place END
    ), gone AS (
        DELETE FROM {schema}.entry e USING done d
        WHERE d.new IS NULL AND e.scope = d.scope AND e.key = d.key
    ), counted AS (
        UPDATE {schema}.bucket b
        SET revision = t.last, bytes = t.upto, owner = p_writer,
            since = CASE WHEN b.owner = p_writer THEN b.since ELSE b.revision END
        FROM (SELECT d.bucket, max(d.revision) AS last, max(d.upto) AS upto FROM done d GROUP BY d.bucket) t
        WHERE b.id = t.bucket
    )
        -- As inserted: by bucket, then as given.
        SELECT d.revision, d.old, NULL::bigint FROM done d;
    ELSE
        RETURN QUERY
    WITH asked AS (
        SELECT i.bucket, i.scope, i.key, i.long_scope, i.long_key, i.last, i.count, i.n, e.value AS held,
               b.revision, b.bytes
        FROM unnest(p_bucket, p_scope, p_key, p_long_scope, p_long_key, p_over, p_base, p_last, p_count)
             WITH ORDINALITY AS i (bucket, scope, key, long_scope, long_key, over, base, last, count, n)
        JOIN {schema}.bucket b ON b.id = i.bucket
        LEFT JOIN {schema}.entry e ON e.scope = i.scope AND e.key = i.key
        WHERE i.over OR e.value IS NOT DISTINCT FROM i.base
    ), steps AS (
        SELECT a.n, a.count - 1 AS step, a.last AS new FROM asked a
        UNION ALL
        SELECT s.item, s.step, s.new FROM unnest(p_item, p_step, p_new) AS s (item, step, new)
        JOIN asked a ON a.n = s.item
    ), pairs AS (
        SELECT s.n, s.step, s.new,
               CASE WHEN s.step = 0 THEN a.held
                    ELSE lag(s.new) OVER (PARTITION BY s.n ORDER BY s.step) END AS old
        FROM steps s JOIN asked a ON a.n = s.n
    ), done AS (
        INSERT INTO {schema}.change AS c
            (bucket, revision, scope, key, long_scope, long_key, old, new, upto)
        SELECT a.bucket, a.revision + row_number() OVER w, a.scope, a.key, a.long_scope, a.long_key, p.old,
               p.new, a.bytes
                       + sum(coalesce(octet_length(p.old), 0) + coalesce(octet_length(p.new), 0)) OVER w
        FROM asked a JOIN pairs p ON p.n = a.n
        WINDOW w AS (PARTITION BY a.bucket ORDER BY a.n, p.step ROWS UNBOUNDED PRECEDING)
        RETURNING c.*
    ), swaps AS (
        SELECT d.bucket, d.scope, d.key, d.long_scope, d.long_key, min(d.revision) AS first,
               max(d.revision) AS last,
               max(d.revision) FILTER (WHERE d.old IS NULL AND d.new IS NOT NULL) AS made
        FROM done d GROUP BY d.bucket, d.scope, d.key, d.long_scope, d.long_key
    ), kept AS (
        INSERT INTO {schema}.entry AS e (scope, key, long_scope, long_key, value, place, revision)
        SELECT s.scope, s.key, s.long_scope, s.long_key, d.new, coalesce(s.made, 0), s.last
        FROM swaps s JOIN done d ON d.bucket = s.bucket AND d.revision = s.last WHERE d.new IS NOT NULL
        ON CONFLICT (scope, key) DO UPDATE
        SET value = excluded.value, revision = excluded.revision,
            place = CASE excluded.place WHEN 0 THEN e.place ELSE excluded.place END
    ), gone AS (
        DELETE FROM {schema}.entry e USING swaps s JOIN done d ON d.bucket = s.bucket AND d.revision = s.last
        WHERE d.new IS NULL AND e.scope = s.scope AND e.key = s.key
    ), counted AS (
        UPDATE {schema}.bucket b
        SET revision = t.last, bytes = t.upto, owner = p_writer,
            since = CASE WHEN b.owner = p_writer THEN b.since ELSE b.revision END
        FROM (SELECT d.bucket, max(d.revision) AS last, max(d.upto) AS upto FROM done d GROUP BY d.bucket) t
        WHERE b.id = t.bucket
    )
        SELECT s.first, d.old, NULL::bigint
        FROM swaps s JOIN done d ON d.bucket = s.bucket AND d.revision = s.first ORDER BY s.bucket, s.first;
    END IF;
    GET DIAGNOSTICS v_won = ROW_COUNT;
    IF v_won < cardinality(p_scope) THEN
        -- Those that do not hold what was expected, and what they hold.
        RETURN QUERY
        SELECT NULL::bigint, e.value, i.n
        FROM unnest(p_scope, p_key) WITH ORDINALITY AS i (scope, key, n)
        LEFT JOIN {schema}.entry e ON e.scope = i.scope AND e.key = i.key
        WHERE (i.scope, i.key) NOT IN (
            SELECT c.scope, c.key FROM unnest(p_ids, v_firsts) AS f (bucket, first)
            JOIN {schema}.change c ON c.bucket = f.bucket AND c.revision >= f.first
        );
    END IF;
    -- A batch of a connection that was given up for lost is not done any more.
    UPDATE {schema}.writer w
    SET batch = p_batch, buckets = p_ids, firsts = v_firsts, seen = now(), lasts = (
        SELECT array_agg(b.revision ORDER BY b.id) FROM {schema}.bucket b WHERE b.id = ANY (p_ids)
    ) WHERE w.id = p_writer AND w.fence = p_fence;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'III01', MESSAGE = 'this writer is not known any more';
    END IF;
    -- One for the whole batch, and only a wake-up: it tells nothing but that there is something to read.
    PERFORM pg_notify('{schema}' || CASE WHEN id < 16 THEN '' ELSE '/' || id END, '')
    FROM unnest(p_ids) AS id;
END
$write$;

CREATE FUNCTION {schema}.edited() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $edited$
BEGIN
    PERFORM FROM {schema}.bucket b ORDER BY b.id FOR NO KEY UPDATE;
    UPDATE {schema}.bucket SET edits = edits + 1;
    RETURN NULL;
END
$edited$;
CREATE TRIGGER edited BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {schema}.entry FOR EACH STATEMENT
WHEN (current_setting('iii.writing', true) IS DISTINCT FROM 'on') EXECUTE FUNCTION {schema}.edited();
