"""What a command that runs one process checks before it begins: wrong input is one sentence and exit code 2.

`pointsman up` has looked at all of it before it starts its parts; this is for whoever starts one of them by hand or
in a container. Apart from `instance/preflight.py`, which also asks whether a whole instance fits on this machine.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer

from pointsman.contracts.names import Env

if TYPE_CHECKING:
    from pointsman.contracts.config import Config

WRONG_INPUT = 2


def refuse(sentence: str) -> NoReturn:
    """Say `sentence` on stderr and leave with the exit code of wrong input."""
    typer.echo(sentence, err=True)
    raise typer.Exit(WRONG_INPUT)


def read_config(file: Path) -> Config:
    """The configuration in `file`, with what the environment adds; refused with all that is wrong with it."""
    from pointsman.contracts.config_file import ConfigError, load_config

    try:
        return _with_environment(load_config(file))
    except ConfigError as error:
        refuse(str(error))


def _with_environment(config: Config) -> Config:
    """
    `config` with the database and the admin keys that the environment names.

    What holds a password, or follows from a key, is given to a container apart from the file that all may read.
    """
    from pydantic import TypeAdapter, ValidationError

    from pointsman.contracts.config_types import DatabaseUrl, Digest

    if database := os.environ.get(Env.DATABASE_URL):
        try:
            TypeAdapter(DatabaseUrl).validate_python(database)
        except ValidationError:  # without its words, which would quote the password
            refuse(f"{Env.DATABASE_URL} is no URL of a PostgreSQL or SQLite database, as SQLAlchemy spells it.")
        config = config.model_copy(update={"database": database})
    if digests := tuple(filter(None, os.environ.get(Env.ADMIN_KEY_DIGESTS, "").replace(" ", "").split(","))):
        try:
            TypeAdapter(tuple[Digest, ...]).validate_python(digests)
        except ValidationError:
            refuse(f"{Env.ADMIN_KEY_DIGESTS} must be SHA-256 digests, each 64 lower-case hexadecimal digits.")
        known = config.router.admin_key_digests
        further = tuple(digest for digest in dict.fromkeys(digests) if digest not in known)
        router = config.router.model_copy(update={"admin_key_digests": known + further})
        config = config.model_copy(update={"router": router})
    return config


def read_secret() -> str:
    """The replicas' shared secret, which must not be seen among the options."""
    secret = os.environ.get(Env.REPLICA_SECRET, "")
    if not secret:
        refuse(f"{Env.REPLICA_SECRET} is not set: it must hold the secret that the router shows to its replicas.")
    return secret


def require_folder(folder: Path) -> None:
    """`folder` exists from now on, and can be written; else refused."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        reason = None if os.access(folder, os.W_OK | os.X_OK) else "permission denied"
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
    if reason:
        refuse(f"The state folder {folder} cannot be written ({reason}): choose another with --state-dir.")


def require_redis_url(url: str) -> None:
    """`url` has the form of a Redis URL; whether one answers there is not asked."""
    from pointsman.cli.instance.preflight import check_redis_url

    if problem := check_redis_url(url):
        refuse(problem)


def require_port(host: str, port: int) -> None:
    """`port` of `host` can be listened on; else refused."""
    from pointsman.cli.instance.preflight import check_port

    if problem := check_port(host, port):
        refuse(problem)
