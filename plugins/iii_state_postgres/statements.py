"""The statements, for one schema. The long ones are functions of the layout."""

from __future__ import annotations

from typing import NamedTuple

_HEADS = """
SELECT id, revision, owner, since, edits, ends FROM {schema}.bucket WHERE id = ANY ($1)
"""
# Heads and values of one moment; a head has no n.
_READ = """
SELECT NULL::bigint AS n, id, revision, owner, since, edits, ends, NULL::bytea AS value
FROM {schema}.bucket WHERE id = ANY ($1)
UNION ALL
SELECT k.n, NULL, NULL, NULL, NULL, NULL, NULL, e.value
FROM unnest($2::bytea[], $3::bytea[]) WITH ORDINALITY AS k (scope, key, n)
LEFT JOIN {schema}.entry e ON e.scope = k.scope AND e.key = k.key AND (e.ends IS NULL OR e.ends > $4)
"""
_WRITE = """
SELECT r_firsts, r_olds, r_lost, r_held
FROM {schema}.write($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16,
                    $17, $18, $19, $20)
"""
# The floor stands in every row, also in the only one of an empty page.
_PAST = """
SELECT m.whole_from, m.whole_from_ms, p.*
FROM {schema}.meta m LEFT JOIN {schema}.past($1, $2, $3, $4, $5, $6) p ON true
"""
# It ends with the version with which the values reach so many bytes.
_VERSIONS = """
SELECT v.revision, v.at_ms, v.value FROM (
    SELECT f.*, sum(coalesce(octet_length(f.value), 0)) OVER
        (ORDER BY f.revision DESC ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
        - coalesce(octet_length(f.value), 0) AS before
    FROM {schema}.versions_of($1, $2, $3, $4, $5, $6, $7) f
) v WHERE v.before < $8 ORDER BY v.revision DESC
"""
# Other hosts need no promise that they are told: this transaction waits for no flush.
_NOTIFY = """
SELECT pg_notify(c.name, ''), set_config('synchronous_commit', 'off', true)
FROM unnest($1::text[]) AS c (name)
"""
_MADE = """
SELECT c.scope, c.key, c.revision, c.old
FROM unnest($1::smallint[], $2::bigint[], $3::bigint[]) AS r (bucket, first, last)
JOIN {schema}.change c ON c.bucket = r.bucket AND c.revision BETWEEN r.first AND r.last
ORDER BY c.bucket, c.revision
"""
# One row more than the page tells whether another one follows.
_PAGE = """
SELECT coalesce(long_key, key), value, place,
       (SELECT count(*) FROM {schema}.entry WHERE scope = $1 AND (ends IS NULL OR ends > $4))
FROM {schema}.entry WHERE scope = $1 AND place > $2 AND (ends IS NULL OR ends > $4)
ORDER BY place LIMIT $3 + 1
"""
_HEALTH = """
SELECT current_setting('server_version'), current_setting('synchronous_commit'),
       current_setting('full_page_writes'), current_setting('synchronous_standby_names'),
       pg_total_relation_size('{schema}.entry'), pg_total_relation_size('{schema}.change'),
       (SELECT count(*) FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')),
       (SELECT coalesce(max(extract(epoch FROM now() - xact_start)), 0)::bigint FROM pg_stat_activity
        WHERE backend_xid IS NOT NULL AND datname = current_database() AND pid <> pg_backend_pid())
"""
_SCOPES = """
WITH RECURSIVE found AS (
    (SELECT scope, long_scope FROM {schema}.entry ORDER BY scope LIMIT 1)
    UNION ALL
    SELECT n.scope, n.long_scope FROM found f CROSS JOIN LATERAL (
        SELECT e.scope, e.long_scope FROM {schema}.entry e WHERE e.scope > f.scope ORDER BY e.scope LIMIT 1
    ) n
)
SELECT coalesce(f.long_scope, f.scope) FROM found f
WHERE EXISTS (SELECT FROM {schema}.entry e WHERE e.scope = f.scope AND (e.ends IS NULL OR e.ends > $1))
"""
# Of each bucket its newest revision and the oldest one that is kept.
_ENDS = """
SELECT b.id, b.revision, (SELECT min(c.revision) FROM {schema}.change c WHERE c.bucket = b.id)
FROM {schema}.bucket b WHERE b.id = ANY ($1) ORDER BY b.id
"""
# A bounded part of each bucket: so many changes, so many bytes, but one at least.
_AFTER = """
SELECT c.bucket, c.revision, coalesce(c.long_scope, c.scope), coalesce(c.long_key, c.key), c.old, c.new,
       floor(date_part('epoch', c.at) * 1000 + 0.001)::bigint, c.moment
FROM unnest($1::smallint[], $2::bigint[]) AS p (bucket, revision)
CROSS JOIN LATERAL (
    SELECT n.*, sum(coalesce(octet_length(n.old), 0) + coalesce(octet_length(n.new), 0)) OVER
        (ORDER BY n.revision ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
    FROM (
        SELECT * FROM {schema}.change c WHERE c.bucket = p.bucket AND c.revision > p.revision
        ORDER BY c.revision LIMIT $3
    ) n
) c
WHERE coalesce(c.before, 0) < 1000000
ORDER BY c.bucket, c.revision
"""
# The buckets with changes that are not copied yet.
_BEHIND = """
SELECT b.id FROM {schema}.bucket b LEFT JOIN {schema}.noted n ON n.bucket = b.id
WHERE b.id < 16 AND (n.bucket IS NULL OR n.upto < b.revision OR n.edits <> b.edits) ORDER BY b.id
"""
# Of the last changes the first one of each bucket.
_LATEST = """
SELECT l.bucket, min(l.revision) FROM (
    SELECT n.bucket, n.revision FROM unnest($1::smallint[], $2::bigint[]) AS p (bucket, revision)
    CROSS JOIN LATERAL (
        SELECT c.bucket, c.revision, c.moment, c.at FROM {schema}.change c
        WHERE c.bucket = p.bucket AND c.revision > p.revision ORDER BY c.revision DESC LIMIT $3
    ) n
    ORDER BY n.moment DESC, n.at DESC, n.revision DESC LIMIT $3
) l GROUP BY l.bucket
"""
# The oldest changes of a bucket that are too many, or have too many bytes behind them.
_TRIM = """
WITH oldest AS (
    SELECT c.revision, c.upto FROM {schema}.change c WHERE c.bucket = $1 ORDER BY c.revision LIMIT $4
), gone AS (
    DELETE FROM {schema}.change c USING {schema}.bucket b
    WHERE b.id = $1 AND c.bucket = $1 AND c.revision <= (SELECT max(o.revision) FROM oldest o)
      AND (c.revision <= b.revision - $2 OR c.upto <= b.bytes - $3)
      AND c.revision <= $5
    RETURNING 1
)
SELECT count(*) FROM gone
"""


class Statements(NamedTuple):
    """Their texts."""

    heads: str
    read: str
    write: str
    register: str
    unregister: str
    lock: str
    fence: str
    made: str
    notify: str
    scope: str
    keys: str
    page: str
    scopes: str
    newest: str
    ends: str
    after: str
    latest: str
    trim: str
    forget_writers: str
    health: str
    erase: str
    store: str
    end: str
    expire: str
    sweep: str
    moment: str
    note: str
    behind: str
    noted: str
    forget_versions: str
    over: str
    versions: str
    settle: str
    moment_at: str
    past: str

    @classmethod
    def of(cls, schema: str) -> Statements:
        """Those of a schema."""
        texts = (
            _HEADS,
            _READ,
            _WRITE,
            "INSERT INTO {schema}.writer DEFAULT VALUES RETURNING id",
            "DELETE FROM {schema}.writer WHERE id = $1",
            "SELECT id FROM {schema}.bucket WHERE id = ANY ($1::smallint[]) ORDER BY id FOR NO KEY UPDATE",
            "UPDATE {schema}.writer SET fence = fence + 1 WHERE id = $1 "
            "RETURNING fence, batch, buckets, firsts, lasts",
            _MADE,
            _NOTIFY,
            "SELECT coalesce(long_key, key), value FROM {schema}.entry "
            "WHERE scope = $1 AND (ends IS NULL OR ends > $2) ORDER BY place",
            "SELECT coalesce(long_key, key) FROM {schema}.entry "
            "WHERE scope = $1 AND (ends IS NULL OR ends > $2) ORDER BY place",
            _PAGE,
            _SCOPES,
            "SELECT revision FROM {schema}.bucket WHERE id = ANY ($1) ORDER BY id",
            _ENDS,
            _AFTER,
            _LATEST,
            _TRIM,
            "DELETE FROM {schema}.writer WHERE seen < now() - interval '7 days'",
            _HEALTH,
            "DROP SCHEMA {schema} CASCADE",
            "SELECT store FROM {schema}.meta",
            "SELECT ends FROM {schema}.entry WHERE scope = $1 AND key = $2 AND (ends IS NULL OR ends > $3)",
            "SELECT {schema}.expire($1, $2, $3, $4, $5, $6, $7, $8)",
            "SELECT {schema}.sweep($1, $2, $3)",
            "SELECT {schema}.next_moment()",
            "SELECT {schema}.note($1, $2, $3, $4, $5)",
            _BEHIND,
            "SELECT upto FROM {schema}.noted WHERE bucket = $1",
            "SELECT {schema}.forget_versions($1, $2)",
            "SELECT 1 FROM {schema}.entry WHERE scope = $1 AND key = $2 AND ends <= $3",
            _VERSIONS,
            "SELECT {schema}.settle()",
            "SELECT {schema}.moment_at($1, $2)",
            _PAST,
        )
        return cls(*(text.replace("{schema}", schema) for text in texts))
