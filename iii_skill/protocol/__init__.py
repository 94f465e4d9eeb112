"""WIRE: the worker protocol as texts and messages, without sockets, asyncio or a clock."""
