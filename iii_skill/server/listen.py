"""Listen on every address that a host name stands for, with one port for all of them."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from iii_skill.errors import ConfigurationError, PortTaken

logger = logging.getLogger(__name__)

BACKLOG = 2048
_TRIES = 20


class Listeners:
    """The listening sockets of one port; `host` is a name or an address at which they answer here."""

    def __init__(
        self, servers: Sequence[asyncio.Server], *, host: str, port: int, at_close: Callable[[], None]
    ) -> None:
        self._servers = servers
        self._at_close = at_close
        self.host = host
        self.port = port

    def close(self) -> None:
        """Take no new connection; those that stand go on. The port is free a turn of the loop later."""
        for server in self._servers:
            _close(server)
        self._at_close()


def _close(server: asyncio.Server) -> None:
    """Close a server behind the connections that it has accepted in this turn of the loop.

    A server that is closed has asyncio drop them open and unheard, until the collector finds them.
    """
    loop = server.get_loop()
    if isinstance(loop, asyncio.SelectorEventLoop):
        for one in server.sockets:
            loop.remove_reader(one.fileno())
        loop.call_soon(server.close)
    else:
        server.close()


async def listen(
    serve: Callable[[socket.socket], Awaitable[asyncio.Server]], host: str, port: int, *, option: str
) -> Listeners:
    """Call `serve` with a bound socket for each address of the host; port 0 is one free port on all of them.

    PortTaken and ConfigurationError say what to do; then nothing listens. `option` chooses another port.
    """
    loop = asyncio.get_running_loop()
    servers: list[asyncio.Server] = []
    sockets: list[socket.socket] = []
    try:
        found = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        sockets = bound_sockets(list(dict.fromkeys((family, address) for family, _, _, _, address in found)))
        for one in sockets:
            servers.append(await serve(one))
    except (OSError, UnicodeError) as error:
        for server in servers:
            server.close()
        for one in sockets[len(servers) :]:
            one.close()
        raise _refused(error, host, port, option) from None
    spare = turn_away_when_full(loop, sockets)
    bound, actual = sockets[0].getsockname()[:2]
    return Listeners(
        servers, host=_reachable(host, bound), port=actual, at_close=lambda: spare.leave(loop, sockets)
    )


class _Spare:
    """A descriptor that is given up for a moment when there is no other: what waits outside is turned away.

    Without it nobody could be told, and the loop would try to accept them without end.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.sockets: list[socket.socket] = []
        self._next = loop.get_exception_handler()
        self._spare: int | None = os.open(os.devnull, os.O_RDONLY)

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What the loop says of an error that nobody waits for."""
        error = context.get("exception")
        if isinstance(error, AttributeError) and _no_file(error.__context__):
            return  # aiofastnet, on its way to what it wants to do about the error that it has told before
        if _no_file(error):
            logger.warning("no file can be opened any more: connections are turned away; see `ulimit -n`")
            for one in self.sockets:
                self._turn_away(one)
        elif self._next is not None:
            self._next(loop, context)
        else:
            loop.default_exception_handler(context)

    def leave(self, loop: asyncio.AbstractEventLoop, sockets: Sequence[socket.socket]) -> None:
        """These sockets listen no more; with the last one the descriptor goes."""
        self.sockets = [one for one in self.sockets if one not in sockets]
        if not self.sockets and self._spare is not None:
            os.close(self._spare)
            self._spare = None
            if loop.get_exception_handler() is self:
                loop.set_exception_handler(self._next)

    def _turn_away(self, listening: socket.socket) -> None:
        for _ in range(BACKLOG):
            if self._spare is not None:
                os.close(self._spare)
                self._spare = None
            try:
                listening.accept()[0].close()
            except OSError:
                break
            finally:
                with contextlib.suppress(OSError):
                    self._spare = os.open(os.devnull, os.O_RDONLY)


def _no_file(error: BaseException | None) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)


def turn_away_when_full(loop: asyncio.AbstractEventLoop, sockets: Sequence[socket.socket]) -> _Spare:
    """Turn connections away while the process has no descriptor for them."""
    handler = loop.get_exception_handler()
    if not isinstance(handler, _Spare):
        handler = _Spare(loop)
        loop.set_exception_handler(handler)
    handler.sockets += sockets
    return handler


def bound_sockets(addresses: Sequence[tuple[int, tuple[object, ...]]]) -> list[socket.socket]:
    """A socket for each address; with port 0 another port is tried until one is free on all of them."""
    for tries_left in reversed(range(_TRIES)):
        sockets: list[socket.socket] = []
        missing: OSError | None = None
        chosen = 0
        try:
            for family, address in addresses:
                try:
                    one = _bind(family, address, chosen)
                except OSError as error:
                    # A name may stand for an address of a family that is switched off on this machine.
                    if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                        raise
                    missing = error
                    continue
                sockets.append(one)
                chosen = one.getsockname()[1]
        except OSError as error:
            for one in sockets:
                one.close()
            if error.errno != errno.EADDRINUSE or addresses[0][1][1] != 0 or not tries_left:
                raise
            continue
        if sockets:
            return sockets
        raise missing or OSError(errno.EADDRNOTAVAIL, "no address")
    raise AssertionError("unreachable")


def _bind(family: int, address: tuple[object, ...], port: int) -> socket.socket:
    # With its protocol named: asyncio sends small answers at once only where it knows that this is TCP.
    one = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        one.setblocking(False)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind((address[0], address[1] or port, *address[2:]))
    except BaseException:
        one.close()
        raise
    return one


def _reachable(host: str, bound: str) -> str:
    """The host as it was given, or loopback where it stands for every address of the machine."""
    address = ipaddress.ip_address(bound.partition("%")[0])
    if address.is_unspecified:
        return "127.0.0.1" if address.version == 4 else "[::1]"
    return f"[{host}]" if ":" in host else host


def _refused(error: OSError | UnicodeError, host: str, port: int, option: str) -> ConfigurationError:
    """One sentence for an address that cannot be listened on."""
    if isinstance(error, UnicodeError | socket.gaierror):
        reason = "there is no such name"
    elif error.errno == errno.EADDRINUSE:
        # Beside options of a command line there are settings of a file.
        number, zero = (
            (f"with {option} N", f"{option} 0") if option.startswith("-") else (f"by {option}", "0")
        )
        return PortTaken(
            f"Port {port} on {host} is taken by another program; choose another {number} "
            f"({zero} picks a free one)."
        )
    elif error.errno == errno.EACCES:
        return PortTaken(f"Port {port} needs rights that this user does not have; choose one above 1023.")
    elif error.errno == errno.EADDRNOTAVAIL:
        reason = "that is no address of this machine"
    else:
        reason = error.strerror or str(error)
    return ConfigurationError(
        f"Cannot listen on {host}: {reason}; choose one with --host (127.0.0.1 is this machine alone, "
        "0.0.0.0 every network)."
    )
