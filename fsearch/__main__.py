"""`python -m fsearch`: the same as the command `fsearch`."""

from fsearch.ui.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
