"""Where a command goes: a host or an engine over the worker protocol, or a store that is opened here.

The order: `--url`, options of a store, `III_URL`, `.iii/host.json` in this directory or above (written by
`serve`), the default port. It is always said on stderr, so that nobody writes to another place unknowingly.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import click
import msgspec

from iii_skill.cli.adapter_options import adapter_options
from iii_skill.cli.host_note import running_here
from iii_skill.cli.secrets import token_of, token_options
from iii_skill.errors import ConfigurationError, IiiSkillError, InvocationError

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_URL = "ws://127.0.0.1:49134"

FAILED, USAGE, NOT_FOUND, CONFLICT, UNREACHABLE, REFUSED, LEFT, INTERRUPTED = 1, 2, 3, 4, 5, 6, 7, 130
EXIT_CODES = {
    0: "done",
    FAILED: "failed",
    USAGE: "wrong use of the command",
    NOT_FOUND: "no such key, scope or function",
    CONFLICT: "somebody else changed it first",
    UNREACHABLE: "nothing answers, or not in time",
    REFUSED: "the value is refused",
    LEFT: "a part was left behind",
    INTERRUPTED: "interrupted",
}

_CODE_OF = {
    "function_not_found": NOT_FOUND,
    "TIMEOUT": UNREACHABLE,
    "not_connected": UNREACHABLE,
    "invocation_stopped": UNREACHABLE,
    "VALUE_REFUSED": REFUSED,
    "VALUE_TOO_LARGE": REFUSED,
    "payload_unreadable": REFUSED,
    "payload_too_large": REFUSED,
    "CURSOR_TOO_OLD": LEFT,
}


class Stopped(Exception):
    """The command ends with an exit code and one sentence; `fix` says what to do."""

    def __init__(self, code: int, message: str, *, error: str = "failed", fix: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.error = error
        self.fix = fix


class Backend(Protocol):
    """What answers the calls of a command."""

    label: str

    async def call(self, function_id: str, payload: bytes, *, timeout: float | None = 30.0) -> bytes | None:
        """The encoded result of a function; raises InvocationError."""


class Reach(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for on the command line."""

    url: str | None
    token: str | None
    store: dict[str, Any]
    """Options of a store that is to be opened here."""
    as_json: bool
    quiet: bool


def reach_options(function: F) -> F:
    """Add the options that say where a command goes; the function gets them as one `reach`."""

    def with_reach(
        *args: Any,
        url: str | None,
        token: str | None,
        token_file: Path | None,
        as_json: bool,
        quiet: bool,
        **options: Any,
    ) -> Any:
        names = ("adapter", "adapter_config", "data_dir", "redis_url", "database_url")
        store = {name: options.pop(name) for name in names}
        reach = Reach(
            url=url,
            token=token_of(token, token_file),
            store=store if any(store.values()) else {},
            as_json=as_json,
            quiet=quiet,
        )
        if reach.url is not None and reach.store:
            raise click.UsageError("--url names a host, the other options a store: leave one of them out.")
        return function(*args, reach=reach, **options)

    with_reach.__doc__ = function.__doc__
    with_reach.__name__ = function.__name__
    wrapped: Any = with_reach
    for attribute in ("__click_params__",):
        if hasattr(function, attribute):
            setattr(wrapped, attribute, getattr(function, attribute))
    for option in (
        click.option("--quiet", "-q", is_flag=True, help="Do not say where it goes."),
        click.option("--json", "as_json", is_flag=True, help="JSON on stdout, one object a line."),
        token_options("state", "What the host or engine wants to be presented."),
        adapter_options,
        click.option("--url", metavar="URL", help="A host or engine.  [default: III_URL, or what runs here]"),
    ):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[no-any-return]


def run(reach: Reach, work: Callable[[Backend], Awaitable[int | None]]) -> None:
    """Open the backend, do the work, and end the process with its exit code."""
    try:
        code = asyncio.run(_run(reach, work))
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    except (Stopped, IiiSkillError) as error:
        raise SystemExit(tell(reach, error)) from None
    raise SystemExit(code or 0)


def tell(reach: Reach, error: Exception) -> int:
    """Say on stderr what went wrong; the exit code for it."""
    fix = None
    if isinstance(error, Stopped):
        code, name, message, fix = error.code, error.error, error.message, error.fix
    elif isinstance(error, InvocationError):
        code, name, message = _CODE_OF.get(error.code, FAILED), error.code, error.message
    else:
        assert isinstance(error, IiiSkillError)
        code, name, message = FAILED, error.code, error.message
    if reach.as_json:
        said = {"code": name, "message": message} | ({} if fix is None else {"fix": fix})
        click.echo(json.dumps({"error": said}), err=True)
    else:
        click.echo(f"Error: {message}" + ("" if fix is None else f" {fix}"), err=True)
    return code


async def _run(reach: Reach, work: Callable[[Backend], Awaitable[int | None]]) -> int | None:
    async with backend(reach) as opened:
        if not reach.quiet:
            click.echo(f"[{opened.label}]", err=True)
        return await work(opened)


@contextlib.asynccontextmanager
async def backend(reach: Reach) -> AsyncIterator[Backend]:
    """What the options ask for, opened; Stopped says why it cannot be reached."""
    if reach.store:
        async with _opened_store(reach.store) as store:
            yield store
        return
    url, token = reach.url, reach.token
    if url is None:
        url = os.environ.get("III_URL") or running_here() or DEFAULT_URL
    async with connected(url, token) as wire:
        yield wire


class _Wire:
    """A connection to a host or an engine."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.label = url

    async def call(self, function_id: str, payload: bytes, *, timeout: float | None = 30.0) -> bytes | None:
        from iii_skill.calls import Call, Failure, Outcome

        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        def settle(outcome: Outcome) -> None:
            if not future.done():
                future.set_result(outcome)

        call = Call(function_id, payload, settle, "default")
        self.link.call(call)
        try:
            outcome = await asyncio.wait_for(future, timeout)
        except TimeoutError:
            self.link.abandon(call)
            text = f"'{function_id}' did not answer within {timeout:g} s; its outcome is unknown."
            raise InvocationError(text, code="TIMEOUT") from None
        if isinstance(outcome, Failure):
            raise InvocationError(outcome.message, code=outcome.code)
        return outcome.value

    link: Any = None

    def called(self, _link: Any, _message: Any) -> None:
        """It offers nothing, so nothing is called."""

    delivered = withdrawn = observed = unobserved = called


@contextlib.asynccontextmanager
async def connected(url: str, token: str | None) -> AsyncIterator[_Wire]:
    """A connection; Stopped with what to do when there is none."""
    from iii_skill import __version__
    from iii_skill.attach.engine_link import UNREACHED, Refused, connect
    from iii_skill.protocol import client

    owner: Any = _Wire(url)
    try:
        owner.link = await asyncio.wait_for(connect(owner, token=token), 10)
    except UNREACHED as error:
        raise Stopped(
            UNREACHABLE,
            f"Nothing answers at {url}: {str(error) or 'not in time'}.",
            error="unreachable",
            fix="Start `iii-skill serve`, name another place with --url, or open a store with --data-dir.",
        ) from None
    except Refused as error:
        raise Stopped(UNREACHABLE, error.message, error="refused") from None
    owner.link.send(client.identify("iii-skill-cli", __version__, []))
    try:
        yield owner
    finally:
        owner.link.leave()


class _Store:
    """A store that is opened here, behind a host without sockets."""

    def __init__(self, host: Any, label: str) -> None:
        self._host = host
        self.label = label

    async def call(self, function_id: str, payload: bytes, *, timeout: float | None = 30.0) -> bytes | None:
        result: bytes | None = await self._host.engine.trigger(
            function_id, payload, caller_id=self._host.session_id, timeout=timeout
        )
        return result


@contextlib.asynccontextmanager
async def _opened_store(options: dict[str, Any]) -> AsyncIterator[Backend]:
    from iii_skill.cli.adapter_options import with_adapter
    from iii_skill.config import Config, StateConfig
    from iii_skill.host import Host

    state = with_adapter(StateConfig(), **options)
    host = Host(Config(state=state, http=None, companions=()))
    try:
        await host.open()
    except ConfigurationError as error:
        raise Stopped(USAGE, error.message, error=error.code) from None
    try:
        adapter = host.adapter
        assert adapter is not None
        urls = (state.adapter_config.get(name) for name in ("redis_url", "database_url"))
        place = adapter.data_dir or next(filter(None, urls), "")
        yield _Store(host, f"{adapter.name} {_without_password(str(place))}".strip())
    finally:
        await host.close()


def _without_password(url: str) -> str:
    head, at, tail = url.rpartition("@")
    if not at or "://" not in head:
        return url
    scheme, _, login = head.partition("://")
    return f"{scheme}://{login.partition(':')[0]}@{tail}"


def encode(**fields: Any) -> bytes:
    """A payload."""
    return msgspec.json.encode(fields)


async def functions_of(opened: Backend) -> set[str]:
    """The ids of the functions that the backend offers."""
    answer = await opened.call("engine::functions::list", encode(include_internal=True))
    rows = msgspec.json.decode(answer or b"{}").get("functions", [])
    return {str(row.get("function_id")) for row in rows}


async def need(opened: Backend, function_id: str, verb: str) -> None:
    """Stopped when the backend does not offer the function that a verb needs."""
    if function_id not in await functions_of(opened):
        raise Stopped(
            NOT_FOUND,
            f"{opened.label} cannot do `{verb}`: it does not offer {function_id}.",
            error="function_not_found",
            fix="`iii-skill serve` and `iii-skill attach` do.",
        )
