"""The exception tree, split by who erred; every class carries the code that goes on the wire."""

from __future__ import annotations


class IiiSkillError(Exception):
    """Base of every error of this package. `code` is what a worker sees, `message` one sentence."""

    code = "internal_error"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code


class InvocationError(IiiSkillError):
    """A call failed: what `host.trigger` raises, with the same code and message as on the wire."""

    code = "invocation_failed"

    def __init__(self, message: str, *, code: str | None = None, stacktrace: str | None = None) -> None:
        super().__init__(message, code=code)
        self.stacktrace = stacktrace


# The caller erred.


class CallerError(IiiSkillError):
    """The caller asked for something that cannot be done as asked."""


class CursorTooOld(CallerError):
    """Changes after the cursor were forgotten: read the state again and go on from now."""

    code = "CURSOR_TOO_OLD"


class InputError(CallerError):
    """The payload does not have the shape that the function takes."""

    code = "deserialization_error"


class ValueTooLarge(CallerError):
    """The value is larger than `max_value_bytes` (bytes of compact JSON in UTF-8)."""

    code = "VALUE_TOO_LARGE"


class ValueRefused(CallerError):
    """The value is JSON that one of the SDKs could not read back, so it is not stored."""

    code = "VALUE_REFUSED"


class TriggerRefused(CallerError):
    """A trigger registration is refused; the worker gets a `triggerregistrationresult`.

    `conflict`: what stands in the way is another registration.
    """

    code = "trigger_registration_failed"

    def __init__(self, message: str, *, code: str | None = None, conflict: bool = False) -> None:
        super().__init__(message, code=code)
        self.conflict = conflict


# The adapter erred.


class AdapterError(IiiSkillError):
    """The store could not do it; nothing was changed unless the message says otherwise."""

    code = "ADAPTER_ERROR"


class AdapterUnavailable(AdapterError):
    """The store cannot be reached now; the call had no effect and may be repeated."""


FATE_UNKNOWN = (
    "the fate of the write is unknown: it may have happened or not, so read the key before you repeat it"
)
"""What an AdapterTimeout says of a write."""


class AdapterTimeout(AdapterError):
    """The store did not answer in time; a write may have happened or not.

    `fate_told` says that the message speaks of that already; else the caller of a write is told so.
    """

    def __init__(self, message: str, *, code: str | None = None, fate_told: bool = False) -> None:
        super().__init__(message, code=code)
        self.fate_told = fate_told


class CapabilityMissing(AdapterError):
    """The adapter does not declare the capability that the call needs."""


class StorageFailed(AdapterError):
    """The store failed for good (I/O error): fail-stop. Every waiting caller gets this, the host ends."""


class StoreRefused(AdapterError):
    """The store cannot be opened as it is; the message says what to do."""


# The configuration erred.


class ConfigurationError(IiiSkillError):
    """A setting is wrong; the message names file and key and says what to do."""

    code = "configuration_error"


class PluginError(ConfigurationError):
    """A plugin could not be loaded, or two plugins claim one name."""


class PortTaken(ConfigurationError):
    """Another program listens on the port; the message names it and how to choose another."""
