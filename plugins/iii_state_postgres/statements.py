"""The statements, for one schema. The long ones are functions of the layout."""

from __future__ import annotations

from typing import NamedTuple

_READ = """
SELECT e.value FROM unnest($1::bytea[], $2::bytea[]) WITH ORDINALITY AS k (scope, key, n)
LEFT JOIN {schema}.entry e ON e.scope = k.scope AND e.key = k.key ORDER BY k.n
"""
_WRITE = """
SELECT won, first, found
FROM {schema}.write($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
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
       (SELECT count(*) FROM {schema}.entry WHERE scope = $1)
FROM {schema}.entry WHERE scope = $1 AND place > $2 ORDER BY place LIMIT $3 + 1
"""
_HEALTH = """
SELECT current_setting('server_version'), current_setting('synchronous_commit'),
       current_setting('full_page_writes'), current_setting('synchronous_standby_names'),
       pg_total_relation_size('{schema}.entry'), pg_total_relation_size('{schema}.change')
"""
_SCOPES = """
WITH RECURSIVE found AS (
    (SELECT scope, long_scope FROM {schema}.entry ORDER BY scope LIMIT 1)
    UNION ALL
    SELECT n.scope, n.long_scope FROM found f CROSS JOIN LATERAL (
        SELECT e.scope, e.long_scope FROM {schema}.entry e WHERE e.scope > f.scope ORDER BY e.scope LIMIT 1
    ) n
)
SELECT coalesce(long_scope, scope) FROM found
"""
# A bounded part of each bucket: so many changes, so many bytes, but one at least.
_AFTER = """
SELECT c.bucket, c.revision, coalesce(c.long_scope, c.scope), coalesce(c.long_key, c.key), c.old, c.new
FROM unnest($1::smallint[], $2::bigint[]) AS p (bucket, revision)
CROSS JOIN LATERAL (
    SELECT n.*, sum(coalesce(octet_length(n.old), 0) + coalesce(octet_length(n.new), 0)) OVER
        (ORDER BY n.revision ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
    FROM (
        SELECT * FROM {schema}.change c WHERE c.bucket = p.bucket AND c.revision > p.revision
        ORDER BY c.revision LIMIT 250
    ) n
) c
WHERE coalesce(c.before, 0) < 1000000
ORDER BY c.bucket, c.revision
"""
_TRIM = """
DELETE FROM {schema}.change WHERE (bucket, revision) IN (
    SELECT c.bucket, c.revision FROM {schema}.change c
    WHERE c.bucket = $1 AND c.revision <= greatest(
        (SELECT b.revision - $2 FROM {schema}.bucket b WHERE b.id = $1),
        (SELECT s.revision FROM (
            SELECT revision, sum(coalesce(octet_length(old), 0) + coalesce(octet_length(new), 0))
                OVER (ORDER BY revision DESC) AS upto
            FROM {schema}.change WHERE bucket = $1
        ) s WHERE s.upto > $3 ORDER BY s.revision DESC LIMIT 1)
    ) ORDER BY c.revision LIMIT $4
)
RETURNING 1
"""


class Statements(NamedTuple):
    """Their texts."""

    read: str
    write: str
    register: str
    fence: str
    made: str
    scope: str
    keys: str
    page: str
    scopes: str
    newest: str
    after: str
    trim: str
    forget_writers: str
    health: str
    erase: str

    @classmethod
    def of(cls, schema: str) -> Statements:
        """Those of a schema."""
        texts = (
            _READ,
            _WRITE,
            "INSERT INTO {schema}.writer DEFAULT VALUES RETURNING id",
            "UPDATE {schema}.writer SET fence = fence + 1 WHERE id = $1 "
            "RETURNING fence, batch, buckets, firsts, lasts",
            _MADE,
            "SELECT coalesce(long_key, key), value FROM {schema}.entry WHERE scope = $1 ORDER BY place",
            "SELECT coalesce(long_key, key) FROM {schema}.entry WHERE scope = $1 ORDER BY place",
            _PAGE,
            _SCOPES,
            "SELECT revision FROM {schema}.bucket ORDER BY id",
            _AFTER,
            _TRIM,
            "DELETE FROM {schema}.writer WHERE seen < now() - interval '7 days'",
            _HEALTH,
            "DROP SCHEMA {schema} CASCADE",
        )
        return cls(*(text.replace("{schema}", schema) for text in texts))
