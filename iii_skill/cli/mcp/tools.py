"""Tools: what an agent can do with state, each bounded in what it takes and gives."""

from __future__ import annotations

import asyncio
import time
import uuid
from bisect import bisect_right
from typing import Any

import msgspec
from msgspec import UNSET, Raw

from iii_skill.cli.mcp import shapes
from iii_skill.cli.mcp.allowed import Allowed
from iii_skill.cli.mcp.backend import BackendCalls
from iii_skill.cli.mcp.errors import ToolError
from iii_skill.cli.mcp.texts import PAGE_BYTES, VALUE_BYTES, given, shown
from iii_skill.cli.reach import Stopped
from iii_skill.cli.state.read import at_pointer
from iii_skill.doctor.setup import GivenOptions
from iii_skill.state.functions import CHANGES

PAGE_S = 10.0
"""Seconds after which a page is given although it is not full."""

DOCTOR_S = 90.0
LISTINGS = 8
"""Listings that can be gone on with; the one that was not read for the longest is forgotten."""

LISTED_BYTES = 64 * 1024 * 1024
"""The most that the keys of all of them have."""


class Tools:
    """The tools of one server."""

    def __init__(self, calls: BackendCalls, allowed: Allowed, asked: GivenOptions) -> None:
        self._calls = calls
        self._allowed = allowed
        self._asked = asked
        self._listings: dict[str, tuple[str, list[str]]] = {}
        """Identity to scope and keys; the last one was read last."""

    async def scopes(self, wanted: shapes.ScopesInput) -> shapes.Scopes:
        """The names of the scopes that may be seen; a cursor is the last name that was given."""
        answer = await self._calls.call("state::list_groups")
        names = sorted(msgspec.json.decode(answer or b"{}").get("groups", []))
        names = [name for name in names if name in self._allowed and name.startswith(wanted.prefix)]
        start = 0 if wanted.cursor is UNSET else bisect_right(names, wanted.cursor)
        page = names[start : start + wanted.limit]
        more = start + len(page) < len(names)
        return shapes.Scopes(page, page[-1] if more else UNSET)

    async def list(self, wanted: shapes.ListInput) -> shapes.Rows:
        """Keys in order of first insertion, as of the first page, and what is under them now."""
        self._allowed.check(wanted.scope)
        name, start = await self._listing(wanted)
        keys = self._listings[name][1]
        rows: list[shapes.Row] = []
        size, end = 0, time.monotonic() + PAGE_S
        place = start
        for place in range(start, len(keys)):
            if len(rows) == wanted.limit or size > PAGE_BYTES - VALUE_BYTES or time.monotonic() > end:
                break
            row = shapes.Row(keys[place])
            if wanted.values:
                value = await self._calls.call("state::get", scope=wanted.scope, key=row.key)
                if value is None:
                    continue  # deleted since the first page
                row.value, rest = shown(value)
                row.next_offset = UNSET if rest is None else rest
                size += len(row.value)
            size += len(row.key)
            rows.append(row)
        else:
            place = len(keys)
        cursor: str | msgspec.UnsetType = f"{name}:{place}" if place < len(keys) else UNSET
        return shapes.Rows(rows, len(keys), cursor)

    async def _listing(self, wanted: shapes.ListInput) -> tuple[str, int]:
        """Which list of keys a page is from, and where it begins."""
        if wanted.cursor is not UNSET:
            name, _, place = wanted.cursor.partition(":")
            found = self._listings.pop(name, None)
            if found is None or found[0] != wanted.scope or not (place.isascii() and place.isdigit()):
                raise ToolError("This cursor is of another scope or too old: list again without it.")
            self._listings[name] = found
            return name, int(place[:18])
        answer = await self._calls.call("state::list_keys", scope=wanted.scope)
        keys = msgspec.json.decode(answer or b"{}").get("keys", [])
        name = uuid.uuid4().hex[:12]
        self._listings[name] = wanted.scope, [key for key in keys if key.startswith(wanted.prefix)]
        while len(self._listings) > 1 and (
            len(self._listings) > LISTINGS
            or sum(64 + len(key) for _, kept in self._listings.values() for key in kept) > LISTED_BYTES
        ):
            del self._listings[next(iter(self._listings))]
        return name, 0

    async def get(self, wanted: shapes.GetInput) -> shapes.Value:
        """A value, or the piece of it that was asked for."""
        self._allowed.check(wanted.scope)
        value = await self._calls.call("state::get", scope=wanted.scope, key=wanted.key)
        if value is None:
            return shapes.Value(found=False)
        if wanted.pointer is not UNSET:
            try:
                value = at_pointer(value, wanted.pointer)
            except Stopped as error:
                raise ToolError(error.message) from None
        if wanted.offset > len(value):
            raise ToolError(f"The value has {len(value)} bytes, there is nothing at {wanted.offset}.")
        text, rest = shown(value, wanted.offset)
        return shapes.Value(True, text, len(value), UNSET if rest is None else rest)

    async def write(self, wanted: shapes.WriteInput) -> shapes.Written:
        """Store, change or remove one value."""
        self._allowed.check(wanted.scope)
        guarded = wanted.if_absent or wanted.if_equals is not UNSET
        needs = {"set": "value", "update": "ops", "delete": None}[wanted.action]
        for name in ("value", "ops"):
            if (getattr(wanted, name) is not UNSET) != (name == needs):
                what = f"needs `{needs}`" if name == needs else f"takes no `{name}`"
                raise ToolError(f"The action {wanted.action} {what}.")
        if guarded and wanted.action != "set":
            raise ToolError(f"if_absent and if_equals belong to the action set, not to {wanted.action}.")
        if wanted.if_absent and wanted.if_equals is not UNSET:
            raise ToolError("if_absent and if_equals contradict each other.")
        key: dict[str, Any] = {"scope": wanted.scope, "key": wanted.key}
        if wanted.action == "delete":
            old = await self._calls.call("state::delete", writes=True, **key)
            return shapes.Written(existed=old is not None)
        if wanted.action == "update":
            assert wanted.ops is not UNSET
            return await self._update(key, given(wanted.ops, "ops"))
        assert wanted.value is not UNSET
        key["value"] = Raw(given(wanted.value, "value"))
        if not guarded:
            answer = await self._calls.call("state::set", writes=True, **key)
            found = msgspec.json.decode(answer or b"{}", type=dict[str, Raw])
            old = bytes(found.get("old_value", Raw(b"null")))
            return shapes.Written(existed=old != b"null")
        if wanted.if_equals is not UNSET:
            key["expected"] = Raw(given(wanted.if_equals, "if_equals"))
        answer = await self._calls.call("state::compare-and-set", writes=True, **key)
        found = msgspec.json.decode(answer or b"{}", type=dict[str, Raw])
        if not msgspec.json.decode(found["swapped"]):
            text, rest = shown(bytes(found.get("current", Raw(b"null"))))
            more = "" if rest is None else f" (the first {rest} bytes)"
            raise ToolError(f"Nothing was written: the value is now {text}{more}.")
        return shapes.Written(existed=not wanted.if_absent)

    async def _update(self, key: dict[str, Any], ops: bytes) -> shapes.Written:
        if not ops.startswith(b"["):
            raise ToolError('`ops` is an array of operations, as [{"type":"set","path":"a","value":1}].')
        answer = await self._calls.call("state::update", writes=True, **key, ops=Raw(ops))
        found = msgspec.json.decode(answer or b"{}", type=dict[str, Raw])
        text, rest = shown(bytes(found.get("new_value", Raw(b"null"))))
        errors = msgspec.json.decode(found["errors"]) if "errors" in found else []
        said = [f"op {one['op_index']}: {one['code']}: {one['message']}"[:500] for one in errors[:20]]
        return shapes.Written(text, UNSET if rest is None else rest, errors=said)

    async def watch(self, wanted: shapes.WatchInput) -> shapes.Changes:
        """The changes after a cursor, or those that come while it waits."""
        self._allowed.check(wanted.scope)
        answer = await self._calls.call(
            CHANGES,
            timeout=wanted.seconds + 30,
            after=None if wanted.cursor is UNSET else wanted.cursor,
            scope=wanted.scope,
            key_prefix=wanted.prefix,
            limit=wanted.limit,
            # The host gives a change that is larger than this alone.
            max_bytes=PAGE_BYTES,
            wait_ms=int(wanted.seconds * 1000),
        )
        found = msgspec.json.decode(answer or b"{}", type=dict[str, Raw])
        rows = msgspec.json.decode(found["changes"], type=list[dict[str, Raw]])
        return shapes.Changes([_change(row) for row in rows], msgspec.json.decode(found["next"]))

    async def doctor(self, _wanted: shapes.DoctorInput) -> shapes.Report:
        """What is wrong with this set-up; it looks in a thread, since some checks take their time."""
        examined = asyncio.to_thread(_examine, self._asked, holds_store=self._calls.holds_store)
        try:
            faults = await asyncio.wait_for(examined, DOCTOR_S)
        except TimeoutError:
            raise ToolError(f"It took more than {DOCTOR_S:g} s: run iii-skill doctor.") from None
        return shapes.Report(not any(fault.status == "fail" for fault in faults), faults)


def _change(row: dict[str, Raw]) -> shapes.Change:
    kind = msgspec.json.decode(row["event_type"]).removeprefix("state:")
    change = shapes.Change(kind, msgspec.json.decode(row["key"]))
    if kind != "deleted":
        change.value, rest = shown(bytes(row["new_value"]))
        change.next_offset = UNSET if rest is None else rest
    return change


def _examine(asked: GivenOptions, *, holds_store: bool) -> list[shapes.Fault]:
    import os
    from pathlib import Path

    from iii_skill.doctor.examine import CHECKS, examine
    from iii_skill.doctor.outcome import Status
    from iii_skill.doctor.setup import Setup

    setup = Setup(asked, cwd=Path.cwd(), home=Path.home(), env=os.environ)
    # A store that is opened here is in use, by this process.
    checks = [check for check in CHECKS if not (holds_store and check.id == "directory.lock")]
    findings, _ = asyncio.run(examine(setup, checks, mend=False))
    told = (Status.FAIL, Status.UNKNOWN, Status.WARN)
    return [
        shapes.Fault(one.id, one.status.value, one.found[:1000], one.fix[:1000])
        for one in findings
        if one.status in told
    ]
