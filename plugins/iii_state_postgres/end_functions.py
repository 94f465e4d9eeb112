"""The functions for keys that end: `expire` gives an end, `sweep` deletes what is over, `end_keys` some keys.

`ends` of a bucket is a moment before which none of its keys ends; NULL when none of them has an end.
"""

from __future__ import annotations

# The last change of a key that is over: nobody is its writer, so every host reads the bucket again.
_END = """
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
"""

ENDS = (
    """
CREATE FUNCTION {schema}.end_keys(
    p_scope bytea[], p_key bytea[], p_now bigint, v_moment bigint, v_at timestamptz
) RETURNS void LANGUAGE plpgsql VOLATILE SET enable_seqscan = off AS $end$
BEGIN
    WITH over AS (
        SELECT e.* FROM unnest(p_scope, p_key) AS i (scope, key)
        JOIN {schema}.entry e ON e.scope = i.scope AND e.key = i.key
        WHERE e.ends <= p_now"""
    + _END
    + """
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
        ) e"""
    + _END
    + """
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
"""
)
