"""The function `write`, which carries out a batch of swaps, and the trigger that notes other writers.

It is a function because of what a transaction sees: a single statement that waits for a lock goes on with
what it saw before it waited, each statement of a function looks again.
"""

from __future__ import annotations

_INTO_CHANGE = """
        INSERT INTO {schema}.change AS c
            (bucket, revision, at, scope, key, long_scope, long_key, old, new, upto, moment)"""

# One value each, as nearly always: the winners in the order of their buckets, then as given. Few parts, since
# each costs more than some rows do: keys that are new or gone are seen to after it, where there are some.
_SINGLE = (
    """
        WITH asked AS MATERIALIZED (
            SELECT i.slot, i.scope, i.key, i.long_scope, i.long_key, i.last, i.over, e.value AS held,
                   v_firsts[i.slot] - 1 + row_number() OVER w AS revision, v_bytes[i.slot]
                       + sum(coalesce(octet_length(e.value), 0) + coalesce(octet_length(i.last), 0)) OVER w
                       AS upto
            FROM unnest(p_slot, p_scope, p_key, p_long_scope, p_long_key, p_over, p_base, p_last)
                 WITH ORDINALITY AS i (slot, scope, key, long_scope, long_key, over, base, last, n)
            LEFT JOIN {schema}.entry e ON e.scope = i.scope AND e.key = i.key
            WHERE i.over OR e.value IS NOT DISTINCT FROM i.base
            WINDOW w AS (PARTITION BY i.slot ORDER BY i.n ROWS UNBOUNDED PRECEDING)
        ), done AS ("""
    + _INTO_CHANGE
    + """
            SELECT p_ids[a.slot], a.revision, v_at, a.scope, a.key, a.long_scope, a.long_key, a.held, a.last,
                   a.upto, v_moment
            FROM asked a
        ), kept AS (
            UPDATE {schema}.entry e SET value = a.last, revision = a.revision
            FROM asked a
            WHERE a.held IS NOT NULL AND a.last IS NOT NULL AND e.scope = a.scope AND e.key = a.key
        )"""
)

_SEVERAL = (
    """
        WITH asked AS MATERIALIZED (
            SELECT i.slot, i.scope, i.key, i.long_scope, i.long_key, i.last, i.count, i.over, i.n,
                   e.value AS held
            FROM unnest(p_slot, p_scope, p_key, p_long_scope, p_long_key, p_over, p_base, p_last, p_count)
                 WITH ORDINALITY AS i (slot, scope, key, long_scope, long_key, over, base, last, count, n)
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
        ), done AS ("""
    + _INTO_CHANGE
    + """
            SELECT p_ids[a.slot], v_firsts[a.slot] - 1 + row_number() OVER w, v_at, a.scope, a.key,
                   a.long_scope, a.long_key, p.old, p.new, v_bytes[a.slot]
                       + sum(coalesce(octet_length(p.old), 0) + coalesce(octet_length(p.new), 0)) OVER w,
                   v_moment
            FROM asked a JOIN pairs p ON p.n = a.n
            WINDOW w AS (PARTITION BY a.slot ORDER BY a.n, p.step ROWS UNBOUNDED PRECEDING)
            RETURNING c.*
        ), swaps AS (
            SELECT d.bucket, d.scope, d.key, d.long_scope, d.long_key, max(d.revision) AS last,
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
            DELETE FROM {schema}.entry e
            USING swaps s JOIN done d ON d.bucket = s.bucket AND d.revision = s.last
            WHERE d.new IS NULL AND e.scope = s.scope AND e.key = s.key
        )"""
)

WRITE = (
    """
CREATE FUNCTION {schema}.write(
    p_writer bigint, p_fence integer, p_batch bigint, p_ids smallint[],
    p_slot integer[], p_scope bytea[], p_key bytea[], p_long_scope bytea[], p_long_key bytea[],
    p_over boolean[], p_base bytea[], p_last bytea[],
    p_count integer[], p_item integer[], p_step integer[], p_new bytea[], p_fresh boolean[], p_now bigint,
    p_ahead bigint, p_moment bigint,
    OUT r_firsts bigint[], OUT r_olds bytea[], OUT r_lost integer[], OUT r_held bytea[]
) LANGUAGE plpgsql VOLATILE SET enable_seqscan = off SET enable_bitmapscan = off
SET plan_cache_mode = force_generic_plan AS $write$
#variable_conflict use_column
DECLARE
    v_firsts bigint[];
    v_bytes bigint[];
    v_won integer;
    v_made integer;
    v_gone integer;
    v_last bigint;
    v_upto bigint;
    v_lasts bigint[];
    v_ends bigint;
    v_moment bigint;
    v_at timestamptz;
    v_text text;
BEGIN
    -- An acknowledged write is on the disk, and at the synchronous standbys, whatever the default is here.
    -- Assigned, not performed: that needs no executor.
    IF current_setting('synchronous_commit') NOT IN ('on', 'remote_apply') THEN
        v_text := set_config('synchronous_commit', 'on', true);
    END IF;
    v_text := set_config('iii.writing', 'on', true);
    -- In one order, so that no two batches wait for each other. Held until the commit.
    SELECT array_agg(l.revision + 1), array_agg(l.bytes), min(l.ends) INTO v_firsts, v_bytes, v_ends FROM (
        SELECT b.revision, b.bytes, b.ends FROM {schema}.bucket b WHERE b.id = ANY (p_ids)
        ORDER BY b.id FOR NO KEY UPDATE
    ) l;
    -- While the buckets are locked: whatever is written to them later has a later moment.
    v_moment := coalesce(p_moment, {schema}.next_moment());
    v_at := clock_timestamp() + p_ahead * interval '1 microsecond';
    IF v_ends <= p_now THEN
        -- The end of a key comes before what is written to it then.
        PERFORM {schema}.end_keys(p_scope, p_key, p_now, v_moment, v_at);
        SELECT array_agg(b.revision + 1 ORDER BY b.id), array_agg(b.bytes ORDER BY b.id)
        INTO v_firsts, v_bytes FROM {schema}.bucket b WHERE b.id = ANY (p_ids);
    END IF;
    r_firsts := v_firsts;
    IF cardinality(p_count) = 0 THEN"""
    + _SINGLE
    + """
        SELECT array_agg(a.held) FILTER (WHERE a.over), count(*), max(a.revision), max(a.upto),
               count(*) FILTER (WHERE a.held IS NULL), count(*) FILTER (WHERE a.last IS NULL)
        INTO r_olds, v_won, v_last, v_upto, v_made, v_gone FROM asked a;
        IF v_made > 0 THEN
            INSERT INTO {schema}.entry AS e (scope, key, long_scope, long_key, value, place, revision)
            SELECT c.scope, c.key, c.long_scope, c.long_key, c.new, c.revision, c.revision
            FROM unnest(p_ids, v_firsts) AS f (bucket, first)
            JOIN {schema}.change c ON c.bucket = f.bucket AND c.revision >= f.first
            WHERE c.old IS NULL AND c.new IS NOT NULL
            ON CONFLICT (scope, key) DO UPDATE
            SET value = excluded.value, revision = excluded.revision, place = excluded.place, ends = NULL;
        END IF;
        IF v_gone > 0 THEN
            DELETE FROM {schema}.entry e
            USING unnest(p_ids, v_firsts) AS f (bucket, first)
            JOIN {schema}.change c ON c.bucket = f.bucket AND c.revision >= f.first
            WHERE c.new IS NULL AND e.scope = c.scope AND e.key = c.key;
        END IF;
    ELSE"""
    + _SEVERAL
    + """
        SELECT array_agg(a.held ORDER BY a.n) FILTER (WHERE a.over), count(*) INTO r_olds, v_won FROM asked a;
    END IF;
    IF v_last IS NOT NULL AND cardinality(p_ids) = 1 THEN
        UPDATE {schema}.bucket b SET revision = v_last, bytes = v_upto, owner = p_writer,
            since = CASE WHEN b.owner = p_writer THEN b.since ELSE b.revision END
        WHERE b.id = p_ids[1];
        v_lasts := ARRAY[v_last];
    ELSE
        UPDATE {schema}.bucket b SET revision = t.last, bytes = t.upto, owner = p_writer,
            since = CASE WHEN b.owner = p_writer THEN b.since ELSE b.revision END
        FROM (
            SELECT c.bucket, max(c.revision) AS last, max(c.upto) AS upto
            FROM unnest(p_ids, v_firsts) AS f (bucket, first)
            JOIN {schema}.change c ON c.bucket = f.bucket AND c.revision >= f.first
            GROUP BY c.bucket
        ) t WHERE b.id = t.bucket;
        SELECT array_agg(b.revision ORDER BY b.id) INTO v_lasts
        FROM {schema}.bucket b WHERE b.id = ANY (p_ids);
    END IF;
    -- A batch of a connection that was given up for lost is not done any more: its fence is another one.
    UPDATE {schema}.writer w
    SET batch = p_batch, buckets = p_ids, firsts = v_firsts, lasts = v_lasts, seen = now()
    WHERE w.id = p_writer AND w.fence = p_fence;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'III01', MESSAGE = 'this writer is not known any more';
    END IF;
    IF v_won < cardinality(p_scope) THEN
        -- Those that do not hold what was expected, and what they hold.
        SELECT array_agg(i.n), array_agg(e.value) INTO r_lost, r_held
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
END
$write$;
"""
)

EDITS = """
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
"""
"""Whoever changes `entry` without `write` is noted, so that no host goes by what it remembers."""
