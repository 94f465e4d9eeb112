"""Engines for tests in other languages: `iii-skill serve --control`, told over HTTP what tests want."""
