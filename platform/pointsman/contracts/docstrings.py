"""What the source says of the members of an enumeration: Python keeps docstrings of classes, not of their members.

Stands in the contracts because references of the configuration are written in more than one room.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from enum import StrEnum


def member_docstrings(choice: type[StrEnum]) -> dict[str, str]:
    """The string that follows each member of `choice` in its source, on one line, by the member's name."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(choice))).body
    assert isinstance(body, ast.ClassDef)
    found = {}
    for member, after in zip(body.body, body.body[1:], strict=False):
        if isinstance(member, ast.Assign) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            (target,) = member.targets
            found[ast.unparse(target)] = " ".join(str(after.value.value).split())
    return found
