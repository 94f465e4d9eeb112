"""Parts of an adapter for a server that many hosts share.

`SharedAdapter` is a whole adapter but for what only you know: how to talk to your server. It sends the calls
of one turn of the event loop together, keeps one change per key on its way and runs it again after a lost
race, follows the changes of all hosts from a position over lost connections, and answers every call in time.
An adapter that speaks a protocol of its own takes the parts one by one, as the bundled `redis` does.
"""

from iii_skill.adapters.shared.change_follower import ChangeFollower, FollowedChanges, ReadyChanges
from iii_skill.adapters.shared.connection_keeper import (
    ConnectionBroken,
    ConnectionKeeper,
    ConnectionUnfit,
    Pauses,
    causes_of,
    end_tasks,
    reason_of,
)
from iii_skill.adapters.shared.key_queues import KeyQueue, KeyQueues
from iii_skill.adapters.shared.known_values import NULL, Key, KnownValues, broken_value, is_json
from iii_skill.adapters.shared.server_follower import ServerLog
from iii_skill.adapters.shared.shared_adapter import SharedAdapter
from iii_skill.adapters.shared.swap import Outcome, Overtaken, Swap, Written
from iii_skill.adapters.shared.turn_batches import TurnBatches

__all__ = [
    "NULL",
    "ChangeFollower",
    "ConnectionBroken",
    "ConnectionKeeper",
    "ConnectionUnfit",
    "FollowedChanges",
    "Key",
    "KeyQueue",
    "KeyQueues",
    "KnownValues",
    "Outcome",
    "Overtaken",
    "Pauses",
    "ReadyChanges",
    "ServerLog",
    "SharedAdapter",
    "Swap",
    "TurnBatches",
    "Written",
    "broken_value",
    "causes_of",
    "end_tasks",
    "is_json",
    "reason_of",
]
