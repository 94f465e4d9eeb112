"""The checks of the kit, one module a group; CHECKS holds them all in the order they run."""

from iii_skill.testing.kit import (
    basics,
    capabilities,
    concurrency,
    crashes,
    faults,
    histories,
    lifecycle,
    ordering,
    revisions,
    sharing,
    strings,
    values,
)

GROUPS = (
    basics.group,
    values.group,
    strings.group,
    ordering.group,
    revisions.group,
    concurrency.group,
    histories.group,
    lifecycle.group,
    capabilities.group,
    sharing.group,
    faults.group,
    crashes.group,
)

CHECKS = tuple(check for group in GROUPS for check in group.checks)
