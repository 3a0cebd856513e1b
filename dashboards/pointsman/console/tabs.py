"""Which open pages belong to which session, so that no page outlives it."""

from __future__ import annotations

from collections.abc import Iterable

from nicegui import Client

from pointsman.console.sessions import Session


class Tabs:
    """All open pages of this process."""

    def __init__(self) -> None:
        self._sessions: dict[str, Session] = {}

    def opened(self, client: Client, session: Session) -> None:
        """`client` is a page of `session`."""
        self._sessions[client.id] = session
        client.on_delete(lambda: self._sessions.pop(client.id, None))

    def session_of(self, client_id: str) -> str | None:
        """The identity of the session whose page this is; None: no page is known by this id."""
        session = self._sessions.get(client_id)
        return None if session is None else session.identity

    @property
    def sessions(self) -> list[Session]:
        """The sessions that have a page open, each once."""
        return list({session.identity: session for session in self._sessions.values()}.values())

    def sessions_with(self, key: str) -> list[Session]:
        """Those among them of who logged in with `key`."""
        return [session for session in self.sessions if session.key == key]

    def ended(self, session: Session, reason: str) -> None:
        """`session` is over: its pages show no more, and go to the log-in page, which tells `reason`."""
        for client in self._of(session):
            client.run_javascript(f"window.location.href = '/login?ended={reason}'")
            self._sessions.pop(client.id, None)

    def _of(self, session: Session) -> Iterable[Client]:
        ids = [name for name, one in self._sessions.items() if one.identity == session.identity]
        return [client for name in ids if (client := Client.instances.get(name)) is not None]
