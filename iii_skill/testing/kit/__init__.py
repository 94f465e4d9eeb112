"""The checks of the kit, one module a group; CHECKS holds them all in the order they run."""

from iii_skill.testing.kit import (
    basics,
    capabilities,
    concurrency,
    crashes,
    expiry,
    faults,  # noqa: F401 - its checks are in the group of outage
    feeds,  # noqa: F401 - so are its
    garbage,  # noqa: F401 - its check is in the group of lifecycle
    histories,
    lasting_ends,  # noqa: F401 - its checks are in the group of expiry
    lifecycle,
    logs,
    moments,  # noqa: F401 - its checks are in the group of versions
    ordering,
    outage,
    past,  # noqa: F401 - so are its
    revisions,
    sharing,
    strings,
    sweeps,  # noqa: F401 - its checks are in the group of expiry
    together,
    values,
    versions,
)

GROUPS = (
    basics.group,
    values.group,
    strings.group,
    ordering.group,
    revisions.group,
    concurrency.group,
    histories.group,
    expiry.group,
    versions.group,
    lifecycle.group,
    capabilities.group,
    sharing.group,
    together.group,
    logs.group,
    outage.group,
    crashes.group,
)

CHECKS = tuple(check for group in GROUPS for check in group.checks)
