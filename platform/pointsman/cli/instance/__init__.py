"""One instance of the platform on this machine: its processes, its state folder and its way to the user.

Stands beside the commands because only `pointsman up` runs an instance; it starts every other process as a
command of its own and imports none of the rooms behind them.
"""
