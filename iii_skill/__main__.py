"""`python -m iii_skill` is `iii-skill`."""

from iii_skill.cli.main import main

main()
