"""Where state lies in PostgreSQL: a schema of its own, whose version is in its table `meta`.

`bucket` has one row for each of 16 groups of scopes, and for each of 8 groups of private ones. Whoever
changes a key locks the row of its bucket first, until its transaction is over: so revisions appear in the
order in which they were handed out, and whoever reads `change` from a revision on misses nothing. `entry`
holds the keys, `change` the log, `writer` what became of each host's last batch. Names longer than an index
takes are cut and end in their hash; the whole name stands beside them.

A bucket tells whose changes are its newest: all those after revision `since` are of the writer `owner`. So a
host knows whether what it has in memory is what the tables hold. `bytes` and `upto` sum up the values in the
log, so that its bound is found without reading it. An entry that ends (`ends`, ms since 1970) names its
bucket.

Every commit takes a number of the sequence `moment` while it holds its buckets. So the moments of a bucket
rise, and what was answered before a change was called has an earlier one, in whichever bucket: the changes up
to a moment are a cut of all of them. A host that keeps history copies the log into `version` before it is
cut, as far as `noted` says of each bucket.
"""

from __future__ import annotations

import functools
import hashlib
import zlib
from typing import NamedTuple

from iii_skill.values import PRIVATE_SCOPES

from .end_functions import ENDS
from .history_functions import HISTORY
from .write_function import EDITS, WRITE

BUCKETS = range(16)
"""Those of the scopes that `state::*` knows."""
PRIVATE_BUCKETS = range(16, 24)
"""Those of private scopes."""
ALL_BUCKETS = (*BUCKETS, *PRIVATE_BUCKETS)
LONGEST = 512
"""Bytes of a name that an index takes as it is."""

_FIRST = """
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
"""

_SECOND = """
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
"""

_THIRD = """
ALTER TABLE {schema}.bucket ADD COLUMN ends bigint;
ALTER TABLE {schema}.entry ADD COLUMN ends bigint, ADD COLUMN bucket smallint;
CREATE INDEX ON {schema}.entry (bucket, ends) WHERE ends IS NOT NULL;
DROP FUNCTION IF EXISTS {schema}.write(
    bigint, integer, bigint, smallint[], smallint[], bytea[], bytea[], bytea[], bytea[], boolean[], bytea[],
    bytea[], integer[], integer[], integer[], bytea[]
);
"""

_FOURTH = """
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
"""

_FIFTH = """
DROP FUNCTION IF EXISTS {schema}.write(
    bigint, integer, bigint, smallint[], smallint[], bytea[], bytea[], bytea[], bytea[], boolean[], bytea[],
    bytea[], integer[], integer[], integer[], bytea[], boolean[], bigint, bigint, bigint
);
-- Of values above 2 kB, most of the work of a write is their compression: this method takes a third of it.
DO $lz4$
BEGIN
    EXECUTE 'ALTER TABLE {schema}.entry ALTER COLUMN value SET COMPRESSION lz4';
    EXECUTE 'ALTER TABLE {schema}.version ALTER COLUMN value SET COMPRESSION lz4';
    EXECUTE 'ALTER TABLE {schema}.change ALTER COLUMN old SET COMPRESSION lz4, '
            'ALTER COLUMN new SET COMPRESSION lz4';
EXCEPTION WHEN syntax_error OR feature_not_supported OR invalid_parameter_value THEN
    -- A server before version 14, or one that was built without it.
    NULL;
END
$lz4$;
"""

STEPS = (_FIRST, _SECOND + EDITS, _THIRD, _FOURTH + ENDS + HISTORY, _FIFTH + WRITE)
"""What brings a schema from each layout to the next; the first one makes it."""


class Place(NamedTuple):
    """The bucket of a scope, what stands in the index for it, and its whole name where that is another."""

    bucket: int
    scope: bytes
    long_scope: bytes | None


def raw_name(name: str) -> bytes:
    """A scope or key as bytes; a lone surrogate passes, so that every Python string has a place."""
    return name.encode("utf-8", "surrogatepass")


def name_of(raw: bytes) -> str:
    """What `raw_name` was given."""
    return raw.decode("utf-8", "surrogatepass")


def indexed(raw: bytes) -> tuple[bytes, bytes | None]:
    """What stands in the index, and the whole name where that is another one."""
    if len(raw) <= LONGEST:
        return raw, None
    # One byte longer than any name that stands for itself.
    digest = hashlib.sha256(raw).digest()
    return raw[: LONGEST + 1 - len(digest)] + digest, raw


def place_of(scope: str) -> Place:
    """Where a scope lies, for ever."""
    # What is remembered is bounded: 4,096 names of at most so many characters.
    return _remembered(scope) if len(scope) <= LONGEST else _computed(scope)


def _computed(scope: str) -> Place:
    raw = raw_name(scope)
    if scope.startswith(PRIVATE_SCOPES):
        return Place(private_bucket(scope), *indexed(raw))
    return Place(zlib.crc32(raw) % len(BUCKETS), *indexed(raw))


_remembered = functools.lru_cache(maxsize=4096)(_computed)


def private_bucket(scope: str) -> int:
    """The bucket of a private scope: that of all scopes of its owner, so that they can be followed alone."""
    owner = scope.removeprefix(PRIVATE_SCOPES).partition("/")[0]
    return PRIVATE_BUCKETS[zlib.crc32(raw_name(owner)) % len(PRIVATE_BUCKETS)]


def channel_of(schema: str, bucket: int) -> str:
    """Where changes of the bucket are told: all public ones together, private ones by their buckets."""
    return schema if bucket in BUCKETS else f"{schema}/{bucket}"
