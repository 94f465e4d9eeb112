"""ROUTING: who owns which function and trigger, and where an invocation goes. No sockets."""
