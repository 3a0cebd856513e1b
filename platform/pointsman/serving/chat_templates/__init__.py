"""Chat templates that ship with Pointsman, named `builtin:NAME` in a pool's `chat_template`.

Each is a Jinja file in this folder. A model's own template is always the better choice; these serve models that
have none for the mode a pool answers.
"""

from __future__ import annotations

from pathlib import Path

from pointsman.contracts.config import BUILTIN_PREFIX

_FOLDER = Path(__file__).resolve().parent


def template_file(chat_template: str) -> Path:
    """
    The file behind a pool's `chat_template`: one of ours for `builtin:NAME`, else the file it names.

    Raises `FileNotFoundError`, naming the templates there are.
    """
    if not chat_template.startswith(BUILTIN_PREFIX):
        file = Path(chat_template).expanduser()
        if not file.is_file():
            raise FileNotFoundError(f"there is no chat template {chat_template}")
        return file
    name = chat_template.removeprefix(BUILTIN_PREFIX)
    known = {file.stem: file for file in _FOLDER.glob("*.jinja")}
    if name not in known:
        raise FileNotFoundError(f"there is no {chat_template}; there are: {', '.join(sorted(known))}")
    return known[name]
