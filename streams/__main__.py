"""``python -m streams`` is ``plimsoll``: the same command where no script is on the path."""

from streams.cli import main

if __name__ == "__main__":
    main()
