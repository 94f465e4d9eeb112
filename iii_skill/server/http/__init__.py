"""The HTTP port: HTTP/1.1 over httptools, and the way of a request through functions to its answer."""
