"""Asks for one page over and over, on several connections at once, until its input ends; then says how often.

    python page_reader.py PORT KEY PATH CONNECTIONS

A process of its own, so that it can be pinned away from what it disturbs.
"""

from __future__ import annotations

import http.client
import sys
import threading


def read_on(port: int, key: str, path: str, stopped: threading.Event, counts: list[int]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    count = 0
    while not stopped.is_set():
        connection.request("GET", path, headers={"authorization": f"Bearer {key}"})
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise SystemExit(f"{path} was answered with {answer.status}")
        count += 1
    counts.append(count)


def main() -> None:
    port, key, path, connections = sys.argv[1:]
    stopped = threading.Event()
    counts: list[int] = []
    readers = [
        threading.Thread(target=read_on, args=(int(port), key, path, stopped, counts))
        for _ in range(int(connections))
    ]
    for reader in readers:
        reader.start()
    sys.stdin.read()
    stopped.set()
    for reader in readers:
        reader.join()
    if len(counts) < len(readers):
        raise SystemExit(1)
    print(sum(counts))


if __name__ == "__main__":
    main()
