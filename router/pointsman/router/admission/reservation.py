"""What was set aside for one request, and how it goes back.

Stands beside the allowance that it was taken from. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pointsman.contracts.pricing import Usage
from pointsman.router.admission.purse import Purse

if TYPE_CHECKING:
    from pointsman.router.admission.allowance import Allowance


class Admission:
    """What was set aside for one request. `reserved`: nano-dollars that it costs at most."""

    __slots__ = ("_allowance", "_day", "_input", "_month", "_output", "_tokens", "reserved")

    def __init__(
        self,
        allowance: Allowance,
        day: Purse,
        month: Purse,
        reserved: int,
        tokens_in: int,
        tokens_out: int,
        tokens: int,
    ) -> None:
        self._allowance = allowance
        self._day = day
        self._month = month
        self.reserved = reserved
        self._input = tokens_in
        self._output = tokens_out
        self._tokens = tokens

    def settle(self, usage: Usage | None, nano: int) -> None:
        """The request has ended, with `usage` (None: nothing was used) at `nano` nano-dollars. Called once."""
        allowance, day, month, reserved = self._allowance, self._day, self._month, self.reserved
        allowance.moved = True
        allowance.running -= 1
        allowance.places += 1
        if usage is None:
            allowance.input += self._input
            allowance.output += self._output
            allowance.tokens += self._tokens
        else:
            tokens_in, tokens_out = usage[0] + usage[1], usage[2] + usage[3]
            allowance.input += self._input - tokens_in
            allowance.output += self._output - tokens_out
            allowance.tokens += self._tokens - tokens_in - tokens_out
        day.reserved -= reserved
        day.free += reserved - nano
        month.reserved -= reserved
        month.free += reserved - nano
        if nano:
            day.settled += nano
            day.spent += nano
            month.settled += nano
            month.spent += nano
            if day.spent >= day.soft or month.spent >= month.soft:
                allowance.soften()
        if allowance.waiting:
            allowance.on_return()
