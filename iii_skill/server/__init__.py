"""I/O: the only room that opens sockets."""
