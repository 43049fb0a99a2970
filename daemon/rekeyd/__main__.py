"""`python -m rekeyd` is the command `rekeyd`."""

from rekeyd.cli import main

if __name__ == "__main__":
    main()
