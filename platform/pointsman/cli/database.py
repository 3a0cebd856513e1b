"""`pointsman database`: back the database up, put a backup in its place, bring its tables up to date.

Each works on the database that a configuration names, or on the SQLite file in a state folder; no router is asked.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pointsman.cli.standalone import read_config, refuse
from pointsman.cli.state import default_state_dir
from pointsman.contracts.names import StateFile

if TYPE_CHECKING:
    from sqlalchemy import URL

app = typer.Typer(help="Back up, restore and upgrade what is kept in SQL.", no_args_is_help=True)

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", help="The configuration that names the database. Default: none.", show_default=False),
]
StateDir = Annotated[
    Path | None,
    typer.Option(
        help=f"State folder with the database, where no other is named. Default: {default_state_dir()}",
        show_default=False,
    ),
]


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it.", show_default=False)],
    config: ConfigFile = None,
    state_dir: StateDir = None,
) -> None:
    """Write all that the SQLite database holds at this moment to FILE; whoever uses it need not stop."""
    from pointsman.store.backup import BackupError, back_up, file_of

    try:
        revision = back_up(file_of(_url(config, state_dir)), file)
    except BackupError as error:
        refuse(str(error))
    typer.echo(f"{file}: {file.stat().st_size:,} bytes, tables of revision {revision}")


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A backup.", show_default=False)],
    config: ConfigFile = None,
    state_dir: StateDir = None,
) -> None:
    """
    Put what FILE holds in the place of the SQLite database, which is put aside. Stop the platform first.

    Start Redis empty afterwards: what it needs is brought there from the database.
    """
    from pointsman.cli.instance.state_folder import StateFolder, StateFolderError
    from pointsman.store.backup import BackupError, file_of
    from pointsman.store.backup import restore as put_in_place

    try:
        database = file_of(_url(config, state_dir))
        folder = state_dir or default_state_dir()
        if (folder / StateFile.CONFIG).exists():
            StateFolder(folder).open()  # no `pointsman up` may run there, nor start meanwhile
        aside = put_in_place(file, database)
    except (BackupError, StateFolderError) as error:
        refuse(str(error))
    typer.echo(f"{database} holds what {file} held" + (f"; what was there is {aside}" if aside else ""))


@app.command()
def upgrade(config: ConfigFile = None, state_dir: StateDir = None) -> None:
    """
    Bring the tables up to date, as every process does at its start: for who wants to see it done before.

    Nothing happens where they are.
    """
    from pointsman.contracts.errors import DatabaseUnavailable
    from pointsman.store.database import Database, DatabaseError

    try:
        database = Database(_url(config, state_dir))
        before = database.revision()
        database.migrate()
        after = database.revision()
        database.close()
    except DatabaseError as error:
        refuse(f"The database cannot be used: {error}.")
    except DatabaseUnavailable as error:
        refuse(error.message)
    typer.echo(f"revision {after}" + ("" if before == after else f", from {before or 'nothing'}"))


def _url(config: Path | None, state_dir: Path | None) -> URL:
    from pointsman.store.database import DatabaseError, database_url

    configured = None if config is None else read_config(config).database
    try:
        return database_url(configured, state_dir or default_state_dir())
    except DatabaseError as error:
        refuse(f"The configuration's database cannot be used: {error}.")
