"""The other programs of the systemd test: backends and clients. Every wait of a client has an end."""

import ctypes
import os
import socket
import sys
import threading
import time

PATIENCE = 30


def connect(port):
    stream = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    stream.settimeout(PATIENCE)
    return stream


def exchange(stream, message):
    """Sends a message and reads it back."""
    stream.sendall(message)
    back = b""
    while len(back) < len(message):
        part = stream.recv(len(message) - len(back))
        if not part:
            raise ConnectionError("closed early")
        back += part
    if back != message:
        raise ConnectionError(f"sent {message!r}, got {back!r}")


def echo(port):
    """A backend that gives back what it gets."""
    server = socket.create_server(("", int(port)), family=socket.AF_INET6, dualstack_ipv6=True, backlog=128)

    def serve(stream):
        with stream:
            try:
                while data := stream.recv(1 << 16):
                    stream.sendall(data)
            except OSError:
                pass

    while True:
        stream, _ = server.accept()
        threading.Thread(target=serve, args=(stream,), daemon=True).start()


def full(port):
    """A backend that answers no connect: its queue is full, and the kernel drops what comes to a full queue."""
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("127.0.0.1", int(port)))
    server.listen(0)
    waiting = []
    while True:
        stream = socket.socket()
        stream.settimeout(1)
        waiting.append(stream)
        try:
            stream.connect(("127.0.0.1", int(port)))
        except TimeoutError:
            break
    print("full after", len(waiting), flush=True)
    time.sleep(3600)


def mute(port):
    """Succeeds when a connect gets no answer for half a second."""
    stream = socket.socket()
    stream.settimeout(0.5)
    try:
        stream.connect(("127.0.0.1", int(port)))
    except TimeoutError:
        return
    sys.exit("it answered")


def ask(port):
    """Succeeds when an echo answers."""
    with connect(int(port)) as stream:
        exchange(stream, b"are you there?")


def bulk(port):
    """Sends 32 MiB through and compares what comes back."""
    block = os.urandom(1 << 20)
    with connect(int(port)) as stream:

        def send():
            for _ in range(32):
                stream.sendall(block)
            stream.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        for _ in range(32):
            back = bytearray()
            while len(back) < len(block):
                part = stream.recv(len(block) - len(back))
                if not part:
                    sys.exit("closed early")
                back += part
            if back != block:
                sys.exit("bytes differ")
        if stream.recv(1):
            sys.exit("more came back than was sent")


def hold(port, talks, end):
    """Keeps a session until the file `end` is there; tells in `end`.done how it ended."""
    outcome = "done"
    try:
        with connect(int(port)) as stream:
            exchange(stream, b"begin")
            open(talks, "w").close()
            while not os.path.exists(end):
                stream.settimeout(0.05)
                try:
                    if not stream.recv(1):
                        raise ConnectionError("closed early")
                except TimeoutError:
                    pass
            stream.settimeout(PATIENCE)
            exchange(stream, b"the last words")
    except ConnectionResetError:
        outcome = "cut"
    except OSError as error:
        outcome = f"failed: {error}"
    with open(end + ".new", "w") as out:
        out.write(outcome)
    os.rename(end + ".new", end + ".done")


def get(port, path):
    """Prints the answer to an HTTP request."""
    with connect(int(port)) as stream:
        stream.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        while part := stream.recv(1 << 16):
            sys.stdout.write(part.decode())


def stop_thread(pid, name):
    """Stops one thread of a process and leaves the others alone, until the process is killed."""
    libc = ctypes.CDLL(None, use_errno=True)
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/comm") as comm:
            if comm.read().strip() == name:
                break
    else:
        sys.exit(f"no thread is named {name}")
    for request in (PTRACE_SEIZE, PTRACE_INTERRUPT):
        if libc.ptrace(request, int(thread), None, None) != 0:
            sys.exit(os.strerror(ctypes.get_errno()))
    # A traced thread is a zombie, and its process with it, until its tracer has waited for it.
    while True:
        _, status = os.waitpid(int(thread), WALL)
        if os.WIFEXITED(status) or os.WIFSIGNALED(status):
            return


GAME_ASKS = b"\xff" * 10 + b"gie3\x05"


def play(port, until):
    """A player of DDNet: asks the server for its name until the file is there; each question has its answer."""
    player = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    player.connect(("127.0.0.1", int(port)))
    player.settimeout(PATIENCE)
    answers = 0
    while not os.path.exists(until):
        player.send(GAME_ASKS)
        if b"inf3" not in player.recv(1 << 16):
            sys.exit("not an answer")
        answers += 1
        time.sleep(0.01)
    print("played" if answers > 10 else f"only {answers} answers")


PTRACE_SEIZE = 0x4206
PTRACE_INTERRUPT = 0x4207
WALL = 0x40000000

if __name__ == "__main__":
    globals()[sys.argv[1].replace("-", "_")](*sys.argv[2:])
