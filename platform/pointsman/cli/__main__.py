"""`python -m pointsman.cli`: how `up` starts the other commands, with its own interpreter and no shell."""

from pointsman.cli.main import main

if __name__ == "__main__":
    main()
