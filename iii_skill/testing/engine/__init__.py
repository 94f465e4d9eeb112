"""A fresh engine for every test: the host in a thread of its own, watched, with faults on demand."""
