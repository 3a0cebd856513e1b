"""The command `pointsman`. Sub-commands import lazily, so that `--help` works with any one extra installed."""
