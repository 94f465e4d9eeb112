"""Where a command goes: a host or an engine over the worker protocol, or a store that is opened here.

The order: `--url`, options of a store, `III_URL`, `.iii/host.json` in this directory or above (written by
`serve`), the default port. It is always said on stderr, so that nobody writes to another place unknowingly.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import click
import msgspec

from iii_skill.cli import plain_wire
from iii_skill.cli.adapter_options import adapter_options
from iii_skill.cli.exit_codes import (
    FAILED,
    INTERRUPTED,
    LEFT,
    NOT_FOUND,
    REFUSED,
    UNREACHABLE,
    USAGE,
)
from iii_skill.cli.printable import printable
from iii_skill.cli.secrets import token_of, token_options
from iii_skill.errors import ConfigurationError, IiiSkillError, InvocationError
from iii_skill.protocol.unreached import Refused, no_answer

if TYPE_CHECKING:
    from pathlib import Path

    from iii_skill.cli.loop_wire import LoopWire

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

DEFAULT_URL = "ws://127.0.0.1:49134"
CLOSE_S = 20.0
"""How long a store that is opened here may take to close."""

LOST = frozenset({"TIMEOUT", "not_connected", "invocation_stopped"})
"""Codes of errors that say nothing about the call, but that its answer did not come."""

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


STORE_OPTIONS = ("adapter", "adapter_config", "data_dir", "redis_url", "database_url")


def reach_of(
    *, url: str | None, token: str | None = None, as_json: bool = False, quiet: bool = False, **store: Any
) -> Reach:
    """What the options ask for; `store` has those of STORE_OPTIONS."""
    given = store if any(store.values()) else {}
    return Reach(url=url, token=token, store=given, as_json=as_json, quiet=quiet)


_quiet = click.option("--quiet", "-q", is_flag=True, help="Do not say where it goes.")
_json = click.option("--json", "as_json", is_flag=True, help="JSON on stdout, one object a line.")


def reach_options(function: F) -> F:
    """Add the options that say where a command goes and how it speaks; the function gets one `reach`."""
    return _quiet(_json(place_options(function)))


def place_options(function: F) -> F:
    """Add the options that say where a command goes; the function gets them as one `reach`."""

    def with_reach(
        *args: Any,
        url: str | None,
        token: str | None,
        token_file: Path | None,
        as_json: bool = False,
        quiet: bool = False,
        **options: Any,
    ) -> Any:
        store = {name: options.pop(name) for name in STORE_OPTIONS}
        for value in (*args, *options.values()):
            _check_text(value)
        reach = reach_of(url=url, token=token_of(token, token_file), as_json=as_json, quiet=quiet, **store)
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
        token_options("state", "What the host or engine wants to be presented."),
        adapter_options,
        click.option("--url", metavar="URL", help="A host or engine.  [default: III_URL, or what runs here]"),
    ):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[no-any-return]


def _check_text(value: Any) -> None:
    """UsageError for an argument whose bytes are not UTF-8: it comes as a text that no JSON can hold."""
    if isinstance(value, tuple):
        for one in value:
            _check_text(one)
    elif isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            said = printable(os.fsencode(value).decode(errors="backslashreplace"))
            raise click.UsageError(f"'{said}' is not UTF-8, as names and texts must be.") from None


def own_options(function: F) -> F:
    """Add `--json` and `--quiet` to a command that has its own way to the store; it gets them as `reach`."""

    @functools.wraps(function)
    def with_reach(*args: Any, as_json: bool, quiet: bool, **options: Any) -> Any:
        reach = Reach(url=None, token=None, store={}, as_json=as_json, quiet=quiet)
        return function(*args, reach=reach, **options)

    wrapped: Any = with_reach
    for option in (_quiet, _json):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[no-any-return]


def run(
    reach: Reach, work: Callable[[Backend], Coroutine[Any, Any, int | None]], *, only_calls: bool = False
) -> None:
    """Open the backend, do the work, and end the process with its exit code.

    `only_calls`: the work awaits nothing but one call of the backend after the other. Where that is a host or
    an engine, no event loop is needed, whose import would take longer than the work.
    """
    try:
        code = run_calls(reach, work) if only_calls else _run_loop(_run(reach, work))
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
        import json

        fields = {"code": name, "message": message} | ({} if fix is None else {"fix": fix})
        click.echo(json.dumps({"error": fields}), err=True)
    else:
        said = message if fix is None else f"{message} {fix}"
        click.echo(f"Error: {printable(said, lines=True)}", err=True)
    return code


def run_calls(
    reach: Reach, work: Callable[[Backend], Coroutine[Any, Any, T]], *, within_s: float | None = None
) -> T:
    """What work comes to that awaits nothing but one call after the other."""
    url = reach.url or usual_url()
    if reach.store or not plain_wire.takes(url):
        return _run_loop(_run(reach, work), within_s=within_s)
    with _reaching(url, plain_wire.UNREACHED):
        wire = plain_wire.open_wire(url, reach.token, within_s=within_s or plain_wire.OPEN_S)
    with contextlib.closing(wire):
        _say_where(reach, wire)
        working = work(wire)
        try:
            working.send(None)
        except StopIteration as end:
            result: T = end.value
            return result
        working.close()
    raise AssertionError("it awaits something else than a call")


def _run_loop(work: Coroutine[Any, Any, T], *, within_s: float | None = None) -> T:
    import asyncio

    return asyncio.run(asyncio.wait_for(work, within_s))


async def _run(reach: Reach, work: Callable[[Backend], Coroutine[Any, Any, T]]) -> T:
    async with backend(reach) as opened:
        _say_where(reach, opened)
        return await work(opened)


def _say_where(reach: Reach, opened: Backend) -> None:
    if not reach.quiet:
        click.echo(f"[{opened.label}]", err=True)


@contextlib.asynccontextmanager
async def backend(reach: Reach) -> AsyncIterator[Backend]:
    """What the options ask for, opened; Stopped says why it cannot be reached."""
    if reach.store:
        async with _opened_store(reach.store) as store:
            yield store
        return
    async with connected(reach.url or usual_url(), reach.token) as wire:
        yield wire


def usual_url() -> str:
    """Where a command goes that is told nothing."""
    from iii_skill.cli.host_note import running_here

    return os.environ.get("III_URL") or running_here() or DEFAULT_URL


@contextlib.asynccontextmanager
async def connected(url: str, token: str | None) -> AsyncIterator[LoopWire]:
    """A connection; Stopped with what to do when there is none."""
    from iii_skill.cli import loop_wire

    with _reaching(url, loop_wire.UNREACHED):
        wire = await loop_wire.open_wire(url, token)
    try:
        yield wire
    finally:
        wire.close()


@contextlib.contextmanager
def _reaching(url: str, unreached: tuple[type[Exception], ...]) -> Iterator[None]:
    try:
        yield
    except unreached as error:
        raise Stopped(
            UNREACHABLE,
            no_answer(url, error),
            error="unreachable",
            fix="Start `iii-skill serve`, name another place with --url, or open a store with --data-dir.",
        ) from None
    except Refused as error:
        raise Stopped(UNREACHABLE, error.message, error="refused") from None


def may_be_called(opened: Backend) -> bool:
    """False once the connection to a host or an engine is lost."""
    from iii_skill.cli.loop_wire import LoopWire

    return not (isinstance(opened, LoopWire) and opened.link.lost.is_set())


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
        await host.close(grace_s=CLOSE_S)


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
