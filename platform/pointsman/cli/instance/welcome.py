"""What the user reads once the platform is ready: where it is, how to ask it, how to stop it.

The lines to copy are printed unwrapped, each whole on its own line. The one place that shows a key.
"""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from pointsman.contracts.config import Config

_QUESTION = "What is the capital of France?"


@dataclass(frozen=True, slots=True)
class Ready:
    """A running instance as scripts see it (`--json`): addresses, files and the process to signal."""

    url: str
    demo_key_file: str
    admin_key_file: str
    state_dir: str
    redis_url: str
    pid: int
    console_url: str | None = None

    def as_json(self) -> str:
        return json.dumps(asdict(self))


def welcome(ready: Ready, config: Config, *, key: str, logs: str, seconds: float) -> str:
    """The text for people; `key` is the demo tenant's, `seconds` how long the start took."""
    command = sys.argv[0] if Path(sys.argv[0]).name == "pointsman" else "pointsman"
    instance = ["--url", ready.url, "--state-dir", ready.state_dir]
    models = ", ".join(dict.fromkeys(pool.model for pool in config.pools))
    lines = [
        f"Ready after {seconds:.1f} s.",
        "",
        f"  URL      {ready.url}/v1",
        f"  Key      {key}  (tenant demo; kept in {ready.demo_key_file})",
        *(
            (f"  Console  {ready.console_url}  (log in with that key, or with the one in {ready.admin_key_file})",)
            if ready.console_url
            else ()
        ),
        f"  Model    {models or 'none yet'}",
        f"  Logs     {logs}",
        f"  Stop     Ctrl-C, or kill {ready.pid}",
        *(f"  Licence  {pool.name}: {pool.licence_notice}" for pool in config.pools if pool.licence_notice),
        "",
    ]
    if config.pools:
        commands = [[command, name, *instance] for name in ("chat", "traffic")]
        lines += _ways_to_ask(ready, config.pools[0].model, key=key, commands=commands)
    else:
        create = shlex.join([command, "pools", "create", "NAME", "FILE", *instance])
        lines += ["There is no pool that could answer. Make one:", "", create]
    return "\n".join(lines)


def _ways_to_ask(ready: Ready, model: str, *, key: str, commands: list[list[str]]) -> list[str]:
    # Without randomness: a model as small as the one that ships may otherwise ramble for a minute.
    question = {"model": model, "temperature": 0, "messages": [{"role": "user", "content": _QUESTION}]}
    curl = shlex.join(
        [
            *("curl", f"{ready.url}/v1/chat/completions"),
            *("-H", f"Authorization: Bearer {key}"),
            *("-H", "Content-Type: application/json"),
            *("-d", json.dumps(question)),
        ]
    )
    chat, traffic = commands
    return [
        "Talk to it and see which track each answer takes, and why:",
        "",
        shlex.join(chat),
        "",
        "or have mixed questions asked, one a second:",
        "",
        shlex.join(traffic),
        "",
        "or ask it with curl (-i shows the track):",
        "",
        curl,
        "",
        "or with the OpenAI SDK:",
        "",
        "from openai import OpenAI",
        f'client = OpenAI(base_url="{ready.url}/v1", api_key="{key}")',
        f'question = [{{"role": "user", "content": "{_QUESTION}"}}]',
        f'answer = client.chat.completions.create(model="{model}", messages=question, temperature=0)',
        "print(answer.choices[0].message.content)",
    ]
