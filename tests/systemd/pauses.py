#!/usr/bin/python3
"""How long a client waits at an upgrade: the largest gap of an exchange that goes on at 1 kHz, with other sessions open.

Usage: pauses.py PROGRAM [SESSIONS ...]     default: 1000 9000; five upgrades each; the last lines are the medians
"""
import json
import os
import resource
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROUNDS = 5


def serve(listener):
    """Echoes the first connection of each process below; keeps all others."""
    kept = []
    while True:
        try:
            peer, _ = listener.accept()
        except OSError:
            return
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        first = peer.recv(1)
        if first == b"e":
            threading.Thread(target=echo, args=(peer,), daemon=True).start()
        else:
            peer.sendall(first)
            kept.append(peer)


def echo(peer):
    while True:
        came = peer.recv(64)
        if not came:
            return
        peer.sendall(came)


def child(work):
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    return pid


def hold(port, count, ready):
    sessions = []
    for _ in range(count):
        session = socket.create_connection(("127.0.0.1", port), timeout=30)
        session.sendall(b"k")
        assert session.recv(1) == b"k"
        sessions.append(session)
    os.write(ready, b"r")
    time.sleep(1000)


def gap_during(port, act):
    """The largest time between two answers while `act` runs and a little after."""
    session = socket.create_connection(("127.0.0.1", port), timeout=30)
    session.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    session.sendall(b"e")
    over = threading.Event()

    def run():
        time.sleep(0.2)
        act()
        time.sleep(0.2)
        over.set()

    threading.Thread(target=run).start()
    largest, last = 0.0, time.monotonic()
    while not over.is_set():
        session.sendall(b"12345678")
        assert session.recv(64) == b"12345678"
        now = time.monotonic()
        largest, last = max(largest, now - last), now
        time.sleep(0.001)
    session.close()
    return largest * 1000


def main():
    program, counts = os.path.abspath(sys.argv[1]), [int(count) for count in sys.argv[2:]] or [1000, 9000]
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    folder = tempfile.mkdtemp()
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(4096)
    server = child(lambda: serve(listener))
    free = socket.socket()
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
    free.close()
    path = os.path.join(folder, "evenkeel.yaml")
    with open(path, "w") as file:
        file.write(f"admin: {{ socket: {folder}/admin.sock }}\nlisteners: {{ door: {{ bind: '127.0.0.1:{port}', "
                   f"backends: ['127.0.0.1:{listener.getsockname()[1]}'], health: {{ check: off }} }} }}\n")
    log = open(os.path.join(folder, "log"), "w")
    first = subprocess.Popen([program, "run", "--config", path], stderr=log, stdout=log)
    pids, medians = [first.pid], []
    holders = []
    try:
        deadline = time.monotonic() + 30
        while socket.socket().connect_ex(("127.0.0.1", port)) and time.monotonic() < deadline:
            time.sleep(0.05)

        def upgrade():
            # By signal: a command of our own would take the client's time.
            os.kill(pids[-1], signal.SIGUSR2)

        def successor():
            """The process that has taken over, as the log tells."""
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:
                with open(os.path.join(folder, "log")) as told:
                    found = [json.loads(line) for line in told if "handed over to the new process" in line]
                if len(found) == len(pids):
                    pids.append(found[-1]["pid"])
                    return found[-1]["pause_ms"]
                time.sleep(0.02)
            raise TimeoutError("nobody took over")

        held = 0
        for count in counts:
            read_end, write_end = os.pipe()
            holders.append(child(lambda: hold(port, count - held, write_end)))
            os.read(read_end, 1)
            held = count
            quiet = gap_during(port, lambda: time.sleep(0.5))
            gaps, stood = [], []
            for _ in range(ROUNDS):
                gaps.append(gap_during(port, upgrade))
                stood.append(successor())
            shown = ", ".join(f"{gap:.1f} ({still:.1f})" for gap, still in zip(gaps, stood))
            print(f"{count} sessions: {shown} ms (without an upgrade {quiet:.1f} ms)", flush=True)
            medians.append((count, statistics.median(gaps)))
        for count, median in medians:
            print(f"upgrade with {count} sessions: largest gap {median:.1f} ms")
    finally:
        for pid in holders + [server] + pids:
            try:
                os.kill(pid, 9)
            except OSError:
                pass
        first.wait()


if __name__ == "__main__":
    main()
