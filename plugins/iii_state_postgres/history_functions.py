"""The functions of history: `note` copies the log of changes into `version`, others read or drop versions.

Of a key `version` holds the newest ones, numbered on without a gap, as many as are kept. Where the oldest of
them made the key, the delete before it is held too: so it is known since when the key was not there. `noted`
says of each bucket up to which revision its changes were copied, and up to which one some may be lost,
because they were cut from the log too early or made without it.

From the moment `whole_from` of `meta` on nothing is missing but versions that were too many, and of each key
that has changed the newest one is there. It rises where changes are lost and where a delete is forgotten.
"""

from __future__ import annotations

# What is not in `version` yet, of some buckets.
_TAIL = """
        SELECT c.bucket, c.scope, c.key, c.long_scope, c.long_key, c.moment, c.revision,
               floor(date_part('epoch', c.at) * 1000 + 0.001)::bigint AS at_ms, c.old IS NULL AS made,
               c.new AS value
        FROM {schema}.bucket b LEFT JOIN {schema}.noted n ON n.bucket = b.id
        JOIN {schema}.change c ON c.bucket = b.id AND c.revision > coalesce(n.upto, 0)
        WHERE b.id < 16 AND c.moment > 0 AND (c.old IS NOT NULL OR c.new IS NOT NULL)"""

_NOTE = """
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
"""

# What was replaced before a time goes, in the order of the commits; true when there may be more.
_FORGET = """
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
"""

_READ = (
    """
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
        SELECT t.revision, t.at_ms, t.value FROM ("""
    + _TAIL
    + """
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
    WITH RECURSIVE tail AS MATERIALIZED ("""
    + _TAIL
    + """
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
"""
)

HISTORY = _NOTE + _FORGET + _READ
