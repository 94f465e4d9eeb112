import signal
import threading

from iii import register_worker

iii = register_worker()
stop, wake = threading.Event(), threading.Event()
noted, touched = set(), set()
counted, totals = {}, {}


async def on_order(event):
    noted.add(event["key"])
    wake.set()
    return {}


def state(function, **payload):
    return iii.trigger({"function_id": f"state::{function}", "payload": payload, "timeout_ms": 5000})


def part(order, key=None):
    match order:
        case {"id": str(own), "customer": str(customer), "cents": int(cents)} if key in (None, own):
            return customer, cents
    return None


def settle(key, order):
    before, now = counted.pop(key, None), part(order, key)
    if now:
        counted[key] = now
    for change, sign in ((before, -1), (now, 1)):
        if change:
            cents, orders = totals.get(change[0], (0, 0))
            totals[change[0]] = cents + sign * change[1], orders + sign
            touched.add(change[0])


def recount():
    orders = {order["id"]: order for order in state("list", scope="shop::orders") if part(order)}
    for key in counted.keys() | orders.keys():
        settle(key, orders.get(key))
    touched.update(total["customer"] for total in state("list", scope="shop::totals"))


def work():
    while noted:
        key = noted.pop()
        settle(key, state("get", scope="shop::orders", key=key))
    for customer in list(touched):
        cents, orders = totals.get(customer, (0, 0))
        total = {"customer": customer, "cents": cents, "orders": orders}
        state("set", scope="shop::totals", key=customer, value=total)
        touched.discard(customer)


iii.register_function("totals::order-changed", on_order)
iii.register_trigger(
    {"type": "state", "function_id": "totals::order-changed", "config": {"scope": "shop::orders"}}
)
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda *_: (stop.set(), wake.set()))
recount()
while not stop.is_set():
    work()
    wake.wait(60)
    wake.clear()
iii.shutdown()
