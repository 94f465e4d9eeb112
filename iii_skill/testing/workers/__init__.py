"""Ready checks for workers: what goes wrong in production, and what a worker should make of it.

Give a subclass of WorkerChecks the worker, one piece of its work and a look at what came of it; pytest runs
the checks. They know nothing of the worker's meaning: what happens under trouble is compared with what the
same work leaves one after another.
"""

from iii_skill.testing.workers.odd_keys import ODD_KEYS
from iii_skill.testing.workers.suite import WorkerChecks

__all__ = ["ODD_KEYS", "WorkerChecks"]
