"""A child for trials of the supervision: behaves as its arguments say. Standard library only."""

from __future__ import annotations

import http.server
import os
import signal
import subprocess
import sys
import time

words = sys.argv[1:]
print(f"here with {len(words)} orders", flush=True)
print("a line for the log", file=sys.stderr, flush=True)
while words:
    match words.pop(0):
        case "stubborn":  # SIGTERM does not move it
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        case "hidden-grandchild":  # in a session of its own and deaf to SIGTERM: the worst an engine leaves behind
            code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            code += "print('a grandchild is deaf', flush=True); time.sleep(600)"
            subprocess.Popen([sys.executable, "-I", "-S", "-c", code], start_new_session=True)
        case "die":
            print("out of luck", file=sys.stderr, flush=True)
            sys.exit(int(words.pop(0)))
        case "die-when":  # there is a file of that name
            path = words.pop(0)
            while not os.path.exists(path):
                time.sleep(0.02)
            sys.exit(3)
        case "tell-end":  # writes the moment of its end, to compare orders of stopping
            path = words.pop(0)

            def end(signum: int, frame: object, path: str = path) -> None:
                with open(path, "a") as file:
                    file.write(f"{os.path.basename(path)} {time.monotonic()}\n")
                sys.exit(0)

            signal.signal(signal.SIGTERM, end)
            print(f"{os.path.basename(path)} will tell", flush=True)
        case "startupz":  # the router's part: ready at once

            class Handler(http.server.BaseHTTPRequestHandler):
                def do_GET(self) -> None:
                    self.send_response({"/startupz": 200, "/v1/whoami": 401}.get(self.path, 404))
                    self.send_header("content-length", "0")
                    self.end_headers()

                def log_message(self, format: str, *arguments: object) -> None:
                    """Silent."""

            http.server.HTTPServer(("127.0.0.1", int(words.pop(0))), Handler).serve_forever()
        case word:
            sys.exit(f"no such order: {word}")
time.sleep(600)
