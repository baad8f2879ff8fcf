"""`python -m switchyard.services.cli` is `switchyard`."""

from switchyard.services.cli import main

if __name__ == "__main__":  # a process that a handler spawns imports this too
    main()
