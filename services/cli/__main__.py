"""`python -m services.cli` is `switchyard`."""

from services.cli import main

main()
