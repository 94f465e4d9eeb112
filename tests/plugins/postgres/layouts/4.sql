
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

ALTER TABLE {schema}.bucket ADD COLUMN ends bigint;
ALTER TABLE {schema}.entry ADD COLUMN ends bigint, ADD COLUMN bucket smallint;
CREATE INDEX ON {schema}.entry (bucket, ends) WHERE ends IS NOT NULL;
DROP FUNCTION IF EXISTS {schema}.write(
    bigint, integer, bigint, smallint[], smallint[], bytea[], bytea[], bytea[], bytea[], boolean[], bytea[],
    bytea[], integer[], integer[], integer[], bytea[]
);

ALTER TABLE {schema}.meta
    ADD COLUMN whole_from bigint NOT NULL DEFAULT 0, ADD COLUMN whole_from_ms bigint NOT NULL DEFAULT 0,
    ADD COLUMN walked bigint[] NOT NULL DEFAULT '{0,0,0}';
ALTER TABLE {schema}.change ADD COLUMN moment bigint NOT NULL DEFAULT 0;
CREATE SEQUENCE {schema}.moment;
-- As their owner: who may write to the tables needs no rights of a sequence.
CREATE FUNCTION {schema}.next_moment() RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog AS $next$
BEGIN
    RETURN nextval('{schema}.moment');
END
$next$;
CREATE FUNCTION {schema}.last_moment() RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog AS $last$
BEGIN
    RETURN (SELECT CASE WHEN m.is_called THEN m.last_value ELSE 0 END FROM {schema}.moment m);
END
$last$;
CREATE TABLE {schema}.version (
    scope bytea NOT NULL,
    key bytea NOT NULL,
    moment bigint NOT NULL,
    revision bigint NOT NULL,
    number bigint NOT NULL,
    at_ms bigint NOT NULL,
    bucket smallint NOT NULL,
    made boolean NOT NULL,
    long_scope bytea,
    long_key bytea,
    value bytea,
    PRIMARY KEY (scope, key, moment, revision)
);
CREATE INDEX ON {schema}.version (moment, bucket, revision);
CREATE TABLE {schema}.noted (
    bucket smallint PRIMARY KEY, upto bigint NOT NULL, lost bigint NOT NULL, edits bigint NOT NULL
) WITH (fillfactor = 10);
DROP FUNCTION IF EXISTS {schema}.write(
    bigint, integer, bigint, smallint[], smallint[], bytea[], bytea[], bytea[], bytea[], boolean[], bytea[],
    bytea[], integer[], integer[], integer[], bytea[], boolean[], bigint
);
DO $grants$
DECLARE
    v_right record;
BEGIN
    FOR v_right IN
        SELECT g.grantee, g.privilege_type FROM information_schema.role_table_grants g
        WHERE g.table_schema = '{schema}' AND g.table_name = 'change'
          AND g.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE') AND g.grantee <> current_user
    LOOP
        EXECUTE format(
            'GRANT %s ON {schema}.version, {schema}.noted TO %s', v_right.privilege_type,
            CASE v_right.grantee WHEN 'PUBLIC' THEN 'PUBLIC' ELSE quote_ident(v_right.grantee) END
        );
    END LOOP;
END
$grants$;
DROP FUNCTION IF EXISTS {schema}.sweep(bigint, integer);
DROP FUNCTION IF EXISTS {schema}.expire(
    bigint, integer, smallint[], smallint[], bytea[], bytea[], bigint[], bigint
);
DROP FUNCTION IF EXISTS {schema}.end_keys(bytea[], bytea[], bigint);

CREATE FUNCTION {schema}.end_keys(
    p_scope bytea[], p_key bytea[], p_now bigint, v_moment bigint, v_at timestamptz
) RETURNS void LANGUAGE plpgsql VOLATILE SET enable_seqscan = off AS $end$
BEGIN
    WITH over AS (
        SELECT e.* FROM unnest(p_scope, p_key) AS i (scope, key)
        JOIN {schema}.entry e ON e.scope = i.scope AND e.key = i.key
        WHERE e.ends <= p_now
    ), done AS (
        INSERT INTO {schema}.change AS c
            (bucket, revision, at, scope, key, long_scope, long_key, old, new, upto, moment)
        SELECT o.bucket, b.revision + row_number() OVER w, v_at, o.scope, o.key, o.long_scope, o.long_key,
               o.value, NULL, b.bytes + sum(octet_length(o.value)) OVER w, v_moment
        FROM over o JOIN {schema}.bucket b ON b.id = o.bucket
        WINDOW w AS (PARTITION BY o.bucket ORDER BY o.ends, o.scope, o.key ROWS UNBOUNDED PRECEDING)
        RETURNING c.*
    ), gone AS (
        DELETE FROM {schema}.entry e USING done d WHERE e.scope = d.scope AND e.key = d.key
    )
    UPDATE {schema}.bucket b SET revision = t.last, bytes = t.upto, owner = NULL, since = t.last
    FROM (SELECT d.bucket, max(d.revision) AS last, max(d.upto) AS upto FROM done d GROUP BY d.bucket) t
    WHERE b.id = t.bucket;

END
$end$;

CREATE FUNCTION {schema}.sweep(p_now bigint, p_limit integer, p_ahead bigint) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET enable_seqscan = off AS $sweep$
DECLARE
    v_ids smallint[];
    v_next bigint;
    v_moment bigint;
    v_at timestamptz;
BEGIN
    -- Buckets with keys that are over, or whose moment is too early because an end was moved or taken away.
    SELECT array_agg(f.id) FILTER (WHERE f.first <= p_now OR f.first IS DISTINCT FROM f.ends), min(f.first)
    INTO v_ids, v_next FROM (
        SELECT b.id, b.ends, (
            SELECT min(e.ends) FROM {schema}.entry e WHERE e.bucket = b.id AND e.ends IS NOT NULL
        ) AS first
        FROM {schema}.bucket b WHERE b.ends IS NOT NULL
    ) f;
    IF v_ids IS NULL THEN
        RETURN v_next;
    END IF;
    IF current_setting('synchronous_commit') NOT IN ('on', 'remote_apply') THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    PERFORM set_config('iii.writing', 'on', true);
    PERFORM FROM {schema}.bucket b WHERE b.id = ANY (v_ids) ORDER BY b.id FOR NO KEY UPDATE;
    v_moment := {schema}.next_moment();
    v_at := clock_timestamp() + p_ahead * interval '1 microsecond';
    WITH over AS (
        SELECT e.* FROM unnest(v_ids) AS i (id) CROSS JOIN LATERAL (
            SELECT e.* FROM {schema}.entry e WHERE e.bucket = i.id AND e.ends <= p_now
            ORDER BY e.ends LIMIT p_limit
        ) e
    ), done AS (
        INSERT INTO {schema}.change AS c
            (bucket, revision, at, scope, key, long_scope, long_key, old, new, upto, moment)
        SELECT o.bucket, b.revision + row_number() OVER w, v_at, o.scope, o.key, o.long_scope, o.long_key,
               o.value, NULL, b.bytes + sum(octet_length(o.value)) OVER w, v_moment
        FROM over o JOIN {schema}.bucket b ON b.id = o.bucket
        WINDOW w AS (PARTITION BY o.bucket ORDER BY o.ends, o.scope, o.key ROWS UNBOUNDED PRECEDING)
        RETURNING c.*
    ), gone AS (
        DELETE FROM {schema}.entry e USING done d WHERE e.scope = d.scope AND e.key = d.key
    )
    UPDATE {schema}.bucket b SET revision = t.last, bytes = t.upto, owner = NULL, since = t.last
    FROM (SELECT d.bucket, max(d.revision) AS last, max(d.upto) AS upto FROM done d GROUP BY d.bucket) t
    WHERE b.id = t.bucket;

    UPDATE {schema}.bucket b
    SET ends = (SELECT min(e.ends) FROM {schema}.entry e WHERE e.bucket = b.id AND e.ends IS NOT NULL)
    WHERE b.id = ANY (v_ids);
    PERFORM pg_notify('{schema}' || CASE WHEN id < 16 THEN '' ELSE '/' || id END, '')
    FROM unnest(v_ids) AS id;
    RETURN (SELECT min(b.ends) FROM {schema}.bucket b);
END
$sweep$;

CREATE FUNCTION {schema}.expire(
    p_writer bigint, p_fence integer, p_ids smallint[],
    p_bucket smallint[], p_scope bytea[], p_key bytea[], p_at bigint[], p_now bigint
) RETURNS bigint[] LANGUAGE plpgsql VOLATILE SET enable_seqscan = off AS $expire$
DECLARE
    v_found bigint[];
BEGIN
    IF current_setting('synchronous_commit') NOT IN ('on', 'remote_apply') THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    PERFORM set_config('iii.writing', 'on', true);
    PERFORM FROM {schema}.bucket b WHERE b.id = ANY (p_ids) ORDER BY b.id FOR NO KEY UPDATE;
    WITH given AS (
        UPDATE {schema}.entry e SET ends = i.at, bucket = i.bucket
        FROM unnest(p_bucket, p_scope, p_key, p_at) WITH ORDINALITY AS i (bucket, scope, key, at, n)
        WHERE e.scope = i.scope AND e.key = i.key AND (e.ends IS NULL OR e.ends > p_now)
        RETURNING i.n, i.bucket, i.at
    ), noted AS (
        UPDATE {schema}.bucket b SET ends = least(b.ends, t.at)
        FROM (SELECT g.bucket, min(g.at) AS at FROM given g GROUP BY g.bucket) t WHERE b.id = t.bucket
    )
    SELECT array_agg(g.n) INTO v_found FROM given g;
    -- What a connection that was given up for lost was asked for is not done any more.
    UPDATE {schema}.writer w SET seen = now() WHERE w.id = p_writer AND w.fence = p_fence;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'III01', MESSAGE = 'this writer is not known any more';
    END IF;
    RETURN v_found;
END
$expire$;

CREATE FUNCTION {schema}.write(
    p_writer bigint, p_fence integer, p_batch bigint, p_ids smallint[],
    p_bucket smallint[], p_scope bytea[], p_key bytea[], p_long_scope bytea[], p_long_key bytea[],
    p_over boolean[], p_base bytea[], p_last bytea[],
    p_count integer[], p_item integer[], p_step integer[], p_new bytea[], p_fresh boolean[], p_now bigint,
    p_ahead bigint, p_moment bigint
) RETURNS TABLE (first bigint, found bytea, lost bigint)
LANGUAGE plpgsql VOLATILE SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $write$
#variable_conflict use_column
DECLARE
    v_firsts bigint[];
    v_won integer;
    v_ends bigint;
    v_moment bigint;
    v_at timestamptz;
BEGIN
    -- An acknowledged write is on the disk, and at the synchronous standbys, whatever the default is here.
    IF current_setting('synchronous_commit') NOT IN ('on', 'remote_apply') THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    PERFORM set_config('iii.writing', 'on', true);
    -- In one order, so that no two batches wait for each other. Held until the commit.
    SELECT array_agg(l.revision + 1), min(l.ends) INTO v_firsts, v_ends FROM (
        SELECT b.revision, b.ends FROM {schema}.bucket b WHERE b.id = ANY (p_ids)
        ORDER BY b.id FOR NO KEY UPDATE
    ) l;
    -- While the buckets are locked: whatever is written to them later has a later moment.
    v_moment := coalesce(p_moment, {schema}.next_moment());
    v_at := clock_timestamp() + p_ahead * interval '1 microsecond';
    IF v_ends <= p_now THEN
        -- The end of a key comes before what is written to it then.
        PERFORM {schema}.end_keys(p_scope, p_key, p_now, v_moment, v_at);
        SELECT array_agg(b.revision + 1 ORDER BY b.id) INTO v_firsts
        FROM {schema}.bucket b WHERE b.id = ANY (p_ids);
    END IF;
    IF cardinality(p_count) = 0 THEN
        RETURN QUERY
    WITH done AS (
        INSERT INTO {schema}.change AS c
            (bucket, revision, at, scope, key, long_scope, long_key, old, new, upto, moment)
        SELECT i.bucket, b.revision + row_number() OVER w, v_at, i.scope, i.key, i.long_scope, i.long_key,
               e.value, i.last, b.bytes
                   + sum(coalesce(octet_length(e.value), 0) + coalesce(octet_length(i.last), 0)) OVER w,
               v_moment
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
            place = CASE excluded.place WHEN 0 THEN e.place ELSE excluded.place END,
            ends = CASE excluded.place WHEN 0 THEN e.ends END
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
            (bucket, revision, at, scope, key, long_scope, long_key, old, new, upto, moment)
        SELECT a.bucket, a.revision + row_number() OVER w, v_at, a.scope, a.key, a.long_scope, a.long_key,
               p.old, p.new, a.bytes
                   + sum(coalesce(octet_length(p.old), 0) + coalesce(octet_length(p.new), 0)) OVER w,
               v_moment
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
            place = CASE excluded.place WHEN 0 THEN e.place ELSE excluded.place END,
            ends = CASE excluded.place WHEN 0 THEN e.ends END
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
    IF v_ends IS NOT NULL AND true = ANY (p_fresh) THEN
        UPDATE {schema}.entry e SET ends = NULL
        FROM unnest(p_ids, v_firsts) AS f (bucket, first)
        JOIN {schema}.change c ON c.bucket = f.bucket AND c.revision >= f.first
        JOIN unnest(p_scope, p_key, p_fresh) AS i (scope, key, fresh)
          ON i.scope = c.scope AND i.key = c.key AND i.fresh
        WHERE e.scope = i.scope AND e.key = i.key AND e.ends IS NOT NULL;
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

CREATE FUNCTION {schema}.raise_floor(p_moment bigint, p_at_ms bigint) RETURNS void
LANGUAGE sql VOLATILE AS $raise$
    UPDATE {schema}.meta SET whole_from = p_moment, whole_from_ms = p_at_ms WHERE whole_from < p_moment;
$raise$;

CREATE FUNCTION {schema}.note(
    p_bucket smallint, p_keep bigint, p_changes integer, p_bytes bigint, p_now bigint
) RETURNS boolean LANGUAGE plpgsql VOLATILE SET enable_seqscan = off SET enable_bitmapscan = off AS $note$
DECLARE
    v_noted {schema}.noted;
    v_head {schema}.bucket;
    v_some record;
BEGIN
    SELECT * INTO v_noted FROM {schema}.noted n WHERE n.bucket = p_bucket FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        -- It begins with what the log still holds. Of two hosts that begin one waits, and finds it done.
        INSERT INTO {schema}.noted (bucket, upto, lost, edits)
        SELECT b.id, f.upto, f.upto, b.edits FROM {schema}.bucket b CROSS JOIN LATERAL (
            SELECT coalesce(min(c.revision) - 1, b.revision) AS upto
            FROM {schema}.change c WHERE c.bucket = b.id AND c.moment > 0
        ) f WHERE b.id = p_bucket
        ON CONFLICT DO NOTHING;
        SELECT * INTO v_noted FROM {schema}.noted n WHERE n.bucket = p_bucket FOR NO KEY UPDATE;
        IF v_noted.upto > 0 THEN
            PERFORM {schema}.raise_floor(
                coalesce(c.moment, l.moment),
                coalesce(floor(date_part('epoch', c.at) * 1000 + 0.001)::bigint, p_now)
            )
            FROM {schema}.last_moment() AS l (moment)
            LEFT JOIN {schema}.change c ON c.bucket = p_bucket AND c.revision = v_noted.upto + 1;
        END IF;
    END IF;
    SELECT * INTO v_head FROM {schema}.bucket b WHERE b.id = p_bucket;
    IF v_noted.upto >= v_head.revision AND v_noted.edits = v_head.edits THEN
        RETURN false;
    END IF;
    WITH part AS MATERIALIZED (
        SELECT n.* FROM (
            SELECT m.*, sum(coalesce(octet_length(m.new), 0)) OVER
                (ORDER BY m.revision ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
            FROM (
                SELECT c.revision, c.moment, c.at, c.scope, c.key, c.long_scope, c.long_key, c.new,
                       c.old IS NULL AS made
                FROM {schema}.change c WHERE c.bucket = p_bucket AND c.revision > v_noted.upto
                ORDER BY c.revision LIMIT p_changes
            ) m
        ) n WHERE coalesce(n.before, 0) < p_bytes
    ), changed AS (
        SELECT s.*, row_number() OVER (PARTITION BY s.scope, s.key ORDER BY s.revision) AS place,
               count(*) OVER (PARTITION BY s.scope, s.key) AS count
        FROM part s WHERE NOT s.made OR s.new IS NOT NULL
    ), names AS (
        SELECT c.scope, c.key, c.count, coalesce(l.number, 0) AS last,
               -- Those that are too many by now go at once, unless a host kept far more before.
               c.count > p_keep AND coalesce(l.number - o.number, 0) < 2 * c.count AS none
        FROM changed c LEFT JOIN LATERAL (
            SELECT v.number FROM {schema}.version v WHERE v.scope = c.scope AND v.key = c.key
            ORDER BY v.moment DESC, v.revision DESC LIMIT 1
        ) l ON true LEFT JOIN LATERAL (
            SELECT v.number FROM {schema}.version v
            WHERE v.scope = c.scope AND v.key = c.key AND c.count > p_keep
            ORDER BY v.moment, v.revision LIMIT 1
        ) o ON true
        WHERE c.place = c.count
    ), put AS (
        INSERT INTO {schema}.version
            (scope, key, moment, revision, number, at_ms, bucket, made, long_scope, long_key, value)
        SELECT c.scope, c.key, c.moment, c.revision, n.last + c.place,
               floor(date_part('epoch', c.at) * 1000 + 0.001)::bigint, p_bucket, c.made, c.long_scope,
               c.long_key, c.new
        FROM changed c JOIN names n ON n.scope = c.scope AND n.key = c.key
        WHERE NOT n.none OR c.count - c.place < p_keep OR (c.count - c.place = p_keep AND c.new IS NULL)
    ), gone AS (
        DELETE FROM {schema}.version v USING (
            SELECT f.* FROM names n CROSS JOIN LATERAL (
                SELECT v.* FROM {schema}.version v
                WHERE n.last + n.count > p_keep AND v.scope = n.scope AND v.key = n.key
                ORDER BY v.moment, v.revision LIMIT 2 * n.count + 1
            ) f WHERE f.number < n.last + n.count - p_keep
                   OR (f.number = n.last + n.count - p_keep AND f.value IS NOT NULL)
        ) f WHERE v.scope = f.scope AND v.key = f.key AND v.moment = f.moment AND v.revision = f.revision
    )
    SELECT count(*) AS count, min(s.revision) AS first, max(s.revision) AS last,
           min(s.moment) AS moment, max(s.moment) AS newest,
           floor(date_part('epoch', min(s.at)) * 1000 + 0.001)::bigint AS at_ms,
           floor(date_part('epoch', max(s.at)) * 1000 + 0.001)::bigint AS newest_ms
    INTO v_some FROM part s;
    IF v_some.count = 0 THEN
        v_some.last := v_head.revision;
    ELSIF v_some.count <= v_some.last - v_some.first THEN
        v_noted.lost := v_some.last;
        PERFORM {schema}.raise_floor(v_some.newest, v_some.newest_ms);
    ELSIF v_some.first > v_noted.upto + 1 THEN
        v_noted.lost := v_some.first - 1;
        PERFORM {schema}.raise_floor(v_some.moment, v_some.at_ms);
    END IF;
    IF v_noted.edits <> v_head.edits OR (v_some.count = 0 AND v_noted.upto < v_head.revision) THEN
        -- Keys were changed without the log, or all of it is gone.
        v_noted.lost := greatest(v_some.last, v_head.revision);
        PERFORM {schema}.raise_floor({schema}.last_moment(), p_now);
    END IF;
    UPDATE {schema}.noted n
    SET upto = greatest(n.upto, v_some.last), lost = v_noted.lost, edits = v_head.edits
    WHERE n.bucket = p_bucket;
    RETURN v_some.last < v_head.revision;
END
$note$;

CREATE FUNCTION {schema}.forget_versions(p_since bigint, p_limit integer) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET enable_seqscan = off AS $forget$
DECLARE
    v_walked bigint[];
    v_next bigint[];
    v_count bigint;
    v_moment bigint;
    v_at_ms bigint;
BEGIN
    SELECT m.walked INTO v_walked FROM {schema}.meta m FOR NO KEY UPDATE;
    WITH walked AS MATERIALIZED (
        SELECT v.scope, v.key, v.moment, v.bucket, v.revision, v.value IS NULL AS ended,
               bool_and(v.at_ms < p_since) OVER (ORDER BY v.moment, v.bucket, v.revision) AS old
        FROM (
            SELECT * FROM {schema}.version v
            WHERE (v.moment, v.bucket, v.revision) > (v_walked[1], v_walked[2]::smallint, v_walked[3])
            ORDER BY v.moment, v.bucket, v.revision LIMIT p_limit
        ) v
    ), last AS (
        SELECT DISTINCT ON (s.scope, s.key) s.* FROM walked s WHERE s.old
        ORDER BY s.scope, s.key, s.moment DESC, s.revision DESC
    ), gone AS (
        DELETE FROM {schema}.version v USING last l
        WHERE v.scope = l.scope AND v.key = l.key
          AND ((v.moment, v.revision) < (l.moment, l.revision)
               OR (v.moment = l.moment AND v.revision = l.revision AND l.ended))
        RETURNING v.moment, v.at_ms, v.value IS NULL AS ended
    )
    SELECT (SELECT ARRAY[s.moment, s.bucket, s.revision] FROM walked s WHERE s.old
            ORDER BY s.moment DESC, s.bucket DESC, s.revision DESC LIMIT 1),
           (SELECT count(*) FROM walked s WHERE s.old),
           (SELECT max(g.moment) FROM gone g WHERE g.ended), (SELECT max(g.at_ms) FROM gone g WHERE g.ended)
    INTO v_next, v_count, v_moment, v_at_ms;
    IF v_moment IS NOT NULL THEN
        PERFORM {schema}.raise_floor(v_moment, v_at_ms);
    END IF;
    IF v_next IS NOT NULL THEN
        UPDATE {schema}.meta SET walked = v_next;
    END IF;
    RETURN v_count = p_limit;
END
$forget$;

CREATE FUNCTION {schema}.versions_of(
    p_bucket smallint, p_scope bytea, p_key bytea, p_before bigint, p_limit integer, p_keep integer,
    p_since bigint
) RETURNS TABLE (revision bigint, at_ms bigint, value bytea)
LANGUAGE plpgsql STABLE SET enable_seqscan = off AS $versions$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH all_of AS (
        SELECT v.revision, v.at_ms, v.value FROM {schema}.version v WHERE v.scope = p_scope AND v.key = p_key
        UNION ALL
        SELECT t.revision, t.at_ms, t.value FROM (
        SELECT c.bucket, c.scope, c.key, c.long_scope, c.long_key, c.moment, c.revision,
               floor(date_part('epoch', c.at) * 1000 + 0.001)::bigint AS at_ms, c.old IS NULL AS made,
               c.new AS value
        FROM {schema}.bucket b LEFT JOIN {schema}.noted n ON n.bucket = b.id
        JOIN {schema}.change c ON c.bucket = b.id AND c.revision > coalesce(n.upto, 0)
        WHERE b.id < 16 AND c.moment > 0 AND (c.old IS NOT NULL OR c.new IS NOT NULL)
            AND b.id = p_bucket AND c.scope = p_scope AND c.key = p_key
        ) t
        ORDER BY revision DESC LIMIT p_keep
    ), shown AS (
        SELECT a.*, lag(a.at_ms) OVER (ORDER BY a.revision DESC) AS replaced FROM all_of a
    )
    SELECT s.revision, s.at_ms, s.value FROM shown s
    WHERE (p_before IS NULL OR s.revision < p_before)
      AND (s.replaced >= p_since OR (s.replaced IS NULL AND (s.value IS NOT NULL OR s.at_ms >= p_since)))
    ORDER BY s.revision DESC LIMIT p_limit;
END
$versions$;

-- All commits that have a moment up to the one that is given are over.
CREATE FUNCTION {schema}.settle() RETURNS bigint
LANGUAGE plpgsql VOLATILE SET enable_seqscan = off AS $settle$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    PERFORM FROM {schema}.bucket b WHERE b.id < 16 ORDER BY b.id FOR NO KEY UPDATE;
    RETURN {schema}.last_moment();
END
$settle$;

CREATE FUNCTION {schema}.moment_at(p_at_ms bigint, p_settled bigint) RETURNS bigint
LANGUAGE plpgsql STABLE SET enable_seqscan = off AS $moment$
DECLARE
    v_low bigint := 1;
    v_high bigint := p_settled;
    v_middle bigint;
    v_found bigint;
    v_row record;
BEGIN
    SELECT CASE WHEN m.whole_from_ms <= p_at_ms THEN m.whole_from ELSE 0 END INTO v_found
    FROM {schema}.meta m;
    WHILE v_low <= v_high LOOP
        v_middle := (v_low + v_high) / 2;
        SELECT v.moment, v.at_ms INTO v_row FROM {schema}.version v
        WHERE v.moment BETWEEN v_middle AND v_high ORDER BY v.moment, v.bucket, v.revision LIMIT 1;
        IF v_row.moment IS NULL OR v_row.at_ms > p_at_ms THEN
            v_high := v_middle - 1;
        ELSE
            v_found := greatest(v_found, v_row.moment);
            v_low := v_row.moment + 1;
        END IF;
    END LOOP;
    RETURN v_found;
END
$moment$;

CREATE FUNCTION {schema}.past(
    p_moment bigint, p_scope bytea, p_key bytea, p_limit integer, p_private bytea, p_public bytea
) RETURNS TABLE (
    place_scope bytea, place_key bytea, scope bytea, key bytea, value bytea, known_from bigint, more boolean
)
LANGUAGE plpgsql STABLE SET enable_seqscan = off AS $past$
#variable_conflict use_column
DECLARE
    v_from bigint;
    v_from_ms bigint;
    v_at bigint;
BEGIN
    SELECT m.whole_from, m.whole_from_ms, greatest(p_moment, m.whole_from) INTO v_from, v_from_ms, v_at
    FROM {schema}.meta m;
    RETURN QUERY
    WITH RECURSIVE tail AS MATERIALIZED (
        SELECT c.bucket, c.scope, c.key, c.long_scope, c.long_key, c.moment, c.revision,
               floor(date_part('epoch', c.at) * 1000 + 0.001)::bigint AS at_ms, c.old IS NULL AS made,
               c.new AS value
        FROM {schema}.bucket b LEFT JOIN {schema}.noted n ON n.bucket = b.id
        JOIN {schema}.change c ON c.bucket = b.id AND c.revision > coalesce(n.upto, 0)
        WHERE b.id < 16 AND c.moment > 0 AND (c.old IS NOT NULL OR c.new IS NOT NULL)
          AND (c.scope, c.key) >= (p_scope, p_key)
    ), versioned AS (
        (SELECT v.scope, v.key FROM {schema}.version v WHERE (v.scope, v.key) >= (p_scope, p_key)
         ORDER BY v.scope, v.key LIMIT 1)
        UNION ALL
        SELECT f.scope, f.key FROM versioned o CROSS JOIN LATERAL (
            SELECT v.scope, v.key FROM {schema}.version v WHERE (v.scope, v.key) > (o.scope, o.key)
            ORDER BY v.scope, v.key LIMIT 1
        ) f
    ), names AS (
        SELECT a.scope, a.key FROM (
            (SELECT e.scope, e.key FROM {schema}.entry e
             WHERE (e.scope, e.key) >= (p_scope, p_key) AND e.scope < p_private
             ORDER BY e.scope, e.key LIMIT p_limit + 1)
            UNION
            (SELECT e.scope, e.key FROM {schema}.entry e
             WHERE (e.scope, e.key) >= (p_scope, p_key) AND e.scope >= p_public
             ORDER BY e.scope, e.key LIMIT p_limit + 1)
            UNION
            (SELECT v.scope, v.key FROM versioned v LIMIT p_limit + 1)
            UNION
            (SELECT t.scope, t.key FROM tail t)
        ) a ORDER BY a.scope, a.key LIMIT p_limit + 1
    ), tail_before AS (
        SELECT DISTINCT ON (t.scope, t.key) t.* FROM tail t WHERE t.moment <= v_at
        ORDER BY t.scope, t.key, t.moment DESC, t.revision DESC
    ), tail_after AS (
        SELECT DISTINCT ON (t.scope, t.key) t.* FROM tail t WHERE t.moment > v_at
        ORDER BY t.scope, t.key, t.moment, t.revision
    ), known AS (
        SELECT n.scope, n.key,
               coalesce(tb.bucket, vb.bucket) AS bucket, coalesce(tb.moment, vb.moment) AS moment,
               coalesce(tb.revision, vb.revision) AS revision,
               CASE WHEN tb.moment IS NULL THEN vb.value ELSE tb.value END AS value,
               coalesce(va.moment, ta.moment) AS later,
               CASE WHEN va.moment IS NULL THEN ta.made ELSE va.made END AS made,
               coalesce(va.at_ms, ta.at_ms) AS later_ms,
               coalesce(tb.long_scope, vb.long_scope, va.long_scope, ta.long_scope) AS long_scope,
               coalesce(tb.long_key, vb.long_key, va.long_key, ta.long_key) AS long_key
        FROM names n
        LEFT JOIN LATERAL (
            SELECT v.* FROM {schema}.version v WHERE v.scope = n.scope AND v.key = n.key AND v.moment <= v_at
            ORDER BY v.moment DESC, v.revision DESC LIMIT 1
        ) vb ON true
        LEFT JOIN LATERAL (
            SELECT v.* FROM {schema}.version v WHERE v.scope = n.scope AND v.key = n.key AND v.moment > v_at
            ORDER BY v.moment, v.revision LIMIT 1
        ) va ON true
        LEFT JOIN tail_before tb ON tb.scope = n.scope AND tb.key = n.key
        LEFT JOIN tail_after ta ON ta.scope = n.scope AND ta.key = n.key
    ), told AS (
        SELECT k.scope, k.key, coalesce(e.long_scope, k.long_scope, k.scope) AS name_scope,
               coalesce(e.long_key, k.long_key, k.key) AS name_key,
               -- Without a change since, it is what the key holds now; before a change that made it, nothing.
               CASE WHEN k.revision > coalesce(l.lost, 0) THEN k.value WHEN k.later IS NULL THEN e.value END
                   AS value,
               CASE WHEN k.revision > coalesce(l.lost, 0) OR k.later IS NULL OR k.made THEN NULL
                    ELSE k.later_ms END AS known_from,
               coalesce(k.later IS NULL AND k.moment <= p_moment AND k.revision = e.revision, false) AS same
        FROM known k
        LEFT JOIN {schema}.entry e ON e.scope = k.scope AND e.key = k.key
        LEFT JOIN {schema}.noted l ON l.bucket = k.bucket
    ), sized AS (
        SELECT t.*, sum(coalesce(octet_length(t.value), 0)) OVER
            (ORDER BY t.scope, t.key ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS size,
            lag(t.key) OVER (ORDER BY t.scope, t.key) IS NULL AS first,
            lead(t.key) OVER (ORDER BY t.scope, t.key) IS NOT NULL AS more
        FROM told t
    )
    SELECT s.scope, s.key, s.name_scope, s.name_key,
           CASE WHEN p_moment >= v_from OR s.same THEN s.value END,
           CASE WHEN p_moment >= v_from OR s.same THEN s.known_from
                ELSE coalesce(s.known_from, v_from_ms) END,
           s.more
    FROM sized s WHERE s.first OR s.size <= 8388608 ORDER BY s.scope, s.key;
END
$past$;
