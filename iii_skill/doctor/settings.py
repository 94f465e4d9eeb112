"""Settings: the file of either generation, what an engine stored beside it, addresses and tokens."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from iii_skill.config import adapter_settings
from iii_skill.config.names import both_names
from iii_skill.doctor.listeners import bind_error, is_taken
from iii_skill.doctor.outcome import (
    Outcome,
    Outcomes,
    SetupCheck,
    fail,
    ok,
    page,
    skipped,
    split_remedy,
    warn,
)
from iii_skill.doctor.setup import Setup
from iii_skill.errors import ConfigurationError, IiiSkillError

_VARIABLE = re.compile(r"environment variable '(\w+)'")
_MOST_FILES = 200
_MAX_TOKEN_FILE = 65_536
_PLAIN = "Use letters, digits and signs of ASCII."


def file(setup: Setup) -> Outcome:
    """Whether the file, and what an engine stored beside it, is taken."""
    error = _fault(setup)
    if error is None or _VARIABLE.search(error):
        return ok("no file: the defaults" if setup.config_file is None else f"{setup.config_file} is taken")
    return fail(*split_remedy(error, "Correct it there; references/iii-config.yaml shows every key."))


def variable(setup: Setup) -> Outcome:
    """Whether every `${VAR}` without a default is set."""
    error = _fault(setup)
    named = _VARIABLE.search(error) if error else None
    if named is None or error is None:
        return ok("every variable that the file names is set or has a default")
    return fail(error, f"Set it: export {named[1]}=…, or give it a default: ${{{named[1]}:value}}")


def _fault(setup: Setup) -> str | None:
    try:
        _ = setup.config
    except IiiSkillError as error:
        return error.message
    return None


def notes(setup: Setup) -> Outcomes:
    """What the file says that has no effect here."""
    said = setup.config.notes
    if not said:
        return ok("everything in it has an effect")
    return [warn(note, "Take it out of the file, or leave it for the engine.") for note in said]


def stored(setup: Setup) -> Outcomes:
    """Whether what an engine stored under `config/` is read by anybody."""
    if setup.config_file is None:
        left = sorted((setup.cwd / "config").glob("iii-*.yaml"))[:_MOST_FILES]
        if not left:
            return skipped("no file, and nothing stored by an engine")
        files = ", ".join(path.name for path in left)
        return warn(
            f"An engine has stored settings in config/ ({files}), and without a file nobody reads them.",
            "Name the engine's file: iii-skill serve --config FILE, and iii-skill doctor --config FILE",
        )
    config = setup.config
    folder = setup.config_file.absolute().parent / "config"
    read = {path.resolve() for path in config.stored.values()}
    listed = set(config.stored)
    listed |= {name for section in config.companions or () for name in both_names(section.name)}
    lost = [
        path
        for path in sorted(folder.glob("iii-*.yaml"))[:_MOST_FILES]
        if path.resolve() not in read and not listed.intersection(both_names(path.stem))
    ]
    if lost:
        return [
            warn(
                f"config/{path.name} holds settings of a worker that {setup.config_file.name} does not list.",
                f"List '{path.stem}' under workers, or remove the file.",
            )
            for path in lost
        ]
    if not config.stored:
        return skipped("nothing stored by an engine")
    return ok("in use: " + ", ".join(f"config/{path.name}" for path in config.stored.values()))


def adapter(setup: Setup) -> Outcome:
    """Whether the adapter takes its settings."""
    try:
        settings = setup.adapter_settings
    except IiiSkillError as error:
        return fail(error.message, "Correct it; `iii-skill adapters` lists the settings of each adapter.")
    return skipped("no state is served") if settings is None else ok("the adapter takes its settings")


def companions(setup: Setup) -> Outcomes:
    """Whether the other workers of the file are there, and take their settings."""
    sections = setup.config.companions
    if sections is None:
        return skipped("no file")
    by_name = {
        name: kind for kind in setup.plugins.companions().values() for name in (kind.name, *kind.aliases)
    }
    found: list[Outcome] = []
    seen: set[type] = set()
    for section in sections:
        kind = by_name.get(section.name)
        if kind is None:
            found.append(
                warn(
                    f"'{section.given or section.name}' is listed, and no plugin here brings such a worker.",
                    "Start it yourself as a worker, or take it out of the file.",
                )
            )
            continue
        if kind in seen:
            found.append(fail(f"{section.where}: '{kind.name}' is listed twice.", "Take one of the two out."))
        seen.add(kind)
        try:
            adapter_settings(kind.config_type, section.config, where=section.where)
        except ConfigurationError as error:
            found.append(fail(error.message, "Correct it there; references/iii-config.yaml shows the keys."))
    return found or ok(", ".join(kind.name for kind in by_name.values() if kind in seen) or "none is listed")


def exposure(setup: Setup) -> Outcomes:
    """Whether the ports are open to other machines without a token."""
    from iii_skill.server.guard import is_host_name, is_loopback

    config, asked = setup.config, setup.asked
    http = config.http
    addresses = {config.worker.host, *((http.host,) if http is not None else ())}
    open_ones = sorted(address for address in addresses if not is_loopback(address))
    names = (*config.worker.allowed_hosts, *(http.allowed_hosts if http is not None else ()))
    found: list[Outcome] = [
        fail(f"'{name}' in allowed_hosts is no host name.", "Write a name without scheme and port.")
        for name in names
        if not is_host_name(name)
    ]
    if open_ones and not asked.no_auth and not _has_token(setup):
        found.append(
            fail(
                f"Listening on {', '.join(open_ones)} lets other machines in, and no token keeps them out.",
                "Set III_SKILL_TOKEN (workers present it in III_TOKEN), or listen on 127.0.0.1.",
            )
        )
    elif open_ones and asked.no_auth:
        found.append(
            warn(
                f"Every machine that reaches {', '.join(open_ones)} may do everything.",
                "Use a token: III_SKILL_TOKEN.",
            )
        )
    if "*" in names and not found:
        found.append(
            warn(
                "allowed_hosts holds '*', so a page of a stranger can reach this host by DNS rebinding.",
                "List the names by which clients call it.",
            )
        )
    return found or ok("loopback only" if not open_ones else "other machines need the token")


def address(setup: Setup) -> Outcomes:
    """Whether the addresses belong to this machine."""
    config = setup.config
    places = {config.worker.host: "the worker port"}
    if config.http is not None:
        places.setdefault(config.http.host, "the HTTP port")
    found: list[Outcome] = []
    for place, what in places.items():
        error = bind_error(place, 0)
        if error is not None and not is_taken(error):
            found.append(
                fail(
                    f"{what[:1].upper()}{what[1:]} cannot listen on {place}: {error.strerror or error}.",
                    "Use 127.0.0.1, 0.0.0.0 or an address of this machine.",
                )
            )
    return found or ok(f"{' and '.join(places)} can be listened on")


def _has_token(setup: Setup) -> bool:
    """The token of the worker, III_TOKEN, guards no port."""
    return any(where != "III_TOKEN" for where, _ in _tokens(setup)) or setup.token_file is not None


def _tokens(setup: Setup) -> Iterator[tuple[str, str]]:
    """Where a token is given, and the token."""
    if setup.asked.token is not None:
        yield "--token", setup.asked.token
    for name in ("III_SKILL_TOKEN", "III_TOKEN"):
        if setup.env.get(name):
            yield name, setup.env[name]


def token(setup: Setup) -> Outcomes:
    """Whether the token can be presented by every worker, and is the same on both sides."""
    from iii_skill.server.guard import check_token

    found: list[Outcome] = []
    for where, text in _tokens(setup):
        try:
            check_token(text, f"The token in {where}")
        except ConfigurationError as error:
            found.append(fail(*split_remedy(error.message, _PLAIN)))
    ours, theirs = setup.env.get("III_SKILL_TOKEN"), setup.env.get("III_TOKEN")
    if ours and theirs and ours != theirs:
        found.append(
            fail(
                "III_TOKEN is another token than III_SKILL_TOKEN, so the host refuses what workers present.",
                "Set both to the same token.",
            )
        )
    path = setup.token_file
    if path is not None:
        found += _token_file(path)
    return found or (ok("usable") if any(_tokens(setup)) or path is not None else skipped("no token"))


def _token_file(path: Path) -> Iterator[Outcome]:
    from iii_skill.server.guard import check_token

    try:
        with path.open("rb") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            text = opened.read(_MAX_TOKEN_FILE)
    except OSError as error:
        yield fail(
            f"The token file {path} cannot be read: {os.strerror(error.errno or 0)}.",
            "Name a file that this user may read.",
        )
        return
    try:
        check_token(text.decode("ascii").removesuffix("\n").removesuffix("\r"), f"The token in {path}")
    except ConfigurationError as error:
        yield fail(*split_remedy(error.message, _PLAIN))
    except UnicodeDecodeError:
        yield fail(f"The token in {path} holds characters that not every worker can send.", _PLAIN)
    if stat.S_IMODE(mode) & 0o077:

        def close_to_others() -> str:
            path.chmod(0o600)
            return f"chmod 600 {path}"

        yield warn(
            f"Other users of this machine may read the token file {path}.",
            f"chmod 600 {path}",
            mend=close_to_others,
        )


_PAGE = page("settings")
_READ = ("python.packages", "config.file", "config.variable")
CHECKS = (
    SetupCheck("config.file", "The file", file, _PAGE, after=("python.packages",)),
    SetupCheck("config.variable", "Variables in the file", variable, _PAGE, after=("python.packages",)),
    SetupCheck(
        "config.adapter", "Settings of the adapter", adapter, _PAGE, after=(*_READ, "plugins.adapter")
    ),
    SetupCheck("config.companions", "Other workers", companions, _PAGE, after=_READ),
    SetupCheck("config.exposure", "Exposure", exposure, _PAGE, after=_READ),
    SetupCheck("config.address", "Addresses", address, _PAGE, after=_READ),
    SetupCheck("config.token", "Token", token, _PAGE, after=("python.packages",)),
    SetupCheck("config.stored", "What an engine stored", stored, _PAGE, after=_READ),
    SetupCheck("config.notes", "Without effect", notes, _PAGE, after=_READ),
)
