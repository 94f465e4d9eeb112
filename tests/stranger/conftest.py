"""The distributions below are built, installed and tested in environments of their own."""

collect_ignore_glob = ["acme-iii-lmdb/*"]
