"""`python -m hallo4`, and so `accelerate launch -m hallo4`: the command line."""

from hallo4.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
