"""The command line `iii-skill`, one command per file."""
