"""A correct worker: it counts requests for a key, each once, and mirrors the count when state changes."""

import os
import signal
import threading

import iii as sdk


class Ledger:
    """Its mistakes are subclasses (mistakes.py)."""

    def __init__(self):
        self.iii = sdk.register_worker(os.environ["III_URL"], sdk.InitOptions(worker_name="ledger"))

    async def state(self, function, **payload):
        """Call a function of state."""
        return await self.iii.trigger_async({"function_id": f"state::{function}", "payload": payload})

    async def add(self, key, request):
        """Count a request; the new count."""
        ops = [{"type": "merge", "path": "requests", "value": {request: True}}]
        answer = await self.state("update", scope="accounts", key=key, ops=ops)
        if answer.get("errors"):
            raise RuntimeError(str(answer["errors"]))
        return len(answer["new_value"]["requests"])

    async def read(self, key):
        """The count; None when nothing was ever counted."""
        value = await self.state("get", scope="accounts", key=key)
        return None if value is None else len(value.get("requests", {}))

    async def mirror(self, event):
        """Keep the count of each key in a scope of its own."""
        if event["new_value"] is None:
            await self.state("delete", scope="mirror", key=event["key"])
        else:
            count = len(event["new_value"].get("requests", {}))
            await self.state("set", scope="mirror", key=event["key"], value={"n": count})

    async def on_add(self, request):
        """POST /add."""
        body = request["body"]
        try:
            return {"status_code": 200, "body": {"n": await self.add(body["key"], body["request"])}}
        except Exception as error:
            return {"status_code": 503, "body": {"error": str(error)}}

    async def on_read(self, request):
        """POST /read."""
        count = await self.read(request["body"]["key"])
        if count is None:
            return {"status_code": 404, "body": {"error": "unknown"}}
        return {"status_code": 200, "body": {"n": count}}

    async def on_change(self, event):
        """Something in `accounts` changed."""
        await self.mirror(event)
        return {}

    def run(self):
        """Register, and serve until SIGTERM."""
        for name, handler, kind, config in (
            ("add", self.on_add, "http", {"api_path": "/add", "http_method": "POST"}),
            ("read", self.on_read, "http", {"api_path": "/read", "http_method": "POST"}),
            ("mirror", self.on_change, "state", {"scope": "accounts"}),
        ):
            function_id = f"ledger::{name}"
            self.iii.register_function(function_id, handler)
            self.iii.register_trigger({"type": kind, "function_id": function_id, "config": config})
        stop = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        stop.wait()
        self.iii.shutdown()


if __name__ == "__main__":
    Ledger().run()
