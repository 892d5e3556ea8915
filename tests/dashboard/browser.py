"""A headless chromium that is steered over a pipe, and a balancer with backends for it to look at. Standard library only."""

import base64
import fcntl
import json
import os
import select
import shutil
import signal
import socket
import socketserver
import subprocess
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

DEADLINE = 60
PORTS = iter(range(10_000 + os.getpid() * 97 % 20_000, 32_000))


def eventually(what, look):
    """Waits until `look` returns something true, and returns that."""
    deadline, seen = time.monotonic() + DEADLINE, None
    while time.monotonic() < deadline:
        try:
            seen = look()
            if seen:
                return seen
        except (OSError, ValueError) as error:
            seen = error
        time.sleep(0.05)
    raise AssertionError(f"{what}: not within {DEADLINE} s, last {seen!r}")


def found():
    """Where chromium is, or None."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


class Browser:
    """One browser; `with` ends it."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="evenkeel-browser-")
        ours_out, ours_in = os.pipe(), os.pipe()
        # The browser reads from 3 and writes to 4: neither pipe may stand there already.
        theirs = [fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (ours_out[0], ours_in[1])]
        os.close(ours_out[0])
        os.close(ours_in[1])
        self.to, self.from_ = ours_out[1], ours_in[0]
        arguments = [
            found(), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--hide-scrollbars", "--disable-background-networking", "--disable-extensions", "--remote-debugging-pipe",
            f"--user-data-dir={self.folder}",
        ]
        command = ["bash", "-c", f'exec "$@" 3<&{theirs[0]} 4>&{theirs[1]}', "bash", *arguments]
        self.log = open(os.path.join(self.folder, "log"), "wb")
        self.child = subprocess.Popen(command, pass_fds=theirs, stderr=self.log, stdout=self.log, stdin=subprocess.DEVNULL, start_new_session=True)
        for fd in theirs:
            os.close(fd)
        self.buffer, self.last, self.answers, self.events = b"", 0, {}, []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            os.killpg(self.child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.child.wait()
        os.close(self.to)
        os.close(self.from_)
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def call(self, method, session=None, **parameters):
        """Asks for one thing and returns the answer."""
        self.last += 1
        message = {"id": self.last, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + DEADLINE
        while self.last not in self.answers:
            self.read(deadline)
        answer = self.answers.pop(self.last)
        if "error" in answer:
            raise AssertionError(f"{method}: {answer['error']}")
        return answer["result"]

    def read(self, deadline):
        ready, _, _ = select.select([self.from_], [], [], max(0, deadline - time.monotonic()))
        if not ready:
            raise AssertionError("the browser does not answer")
        piece = os.read(self.from_, 1 << 20)
        if not piece:
            raise AssertionError("the browser has ended: " + Path(self.folder, "log").read_text(errors="replace")[-2000:])
        *messages, self.buffer = (self.buffer + piece).split(b"\0")
        for message in map(json.loads, messages):
            if "id" in message:
                self.answers[message["id"]] = message
            else:
                self.events.append(message)

    def open(self, address, width=1280, height=900, scheme="light"):
        """A page of that size; scheme: light or dark."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, target, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{domain}.enable")
        page.size(width, height)
        page.scheme(scheme)
        page.call("Page.navigate", url=address)
        return page


class Page:
    """One page of the browser."""

    def __init__(self, browser, target, session):
        self.browser, self.target, self.session = browser, target, session

    def call(self, method, **parameters):
        return self.browser.call(method, self.session, **parameters)

    def size(self, width, height):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)

    def scheme(self, scheme):
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def tell(self, expression):
        """What an expression is on the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise ValueError(answer["exceptionDetails"].get("exception", {}).get("description", "thrown"))
        return answer["result"].get("value")

    def becomes(self, what, expression):
        """Waits until an expression is true on the page."""
        try:
            return eventually(what, lambda: self.tell(expression))
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.tell('document.body.innerText')[:3000]}") from None

    def image(self, path):
        self.call("Page.bringToFront")
        Path(path).write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def heard(self, *methods):
        """What the browser told of this page by itself."""
        return [event for event in self.browser.events if event.get("sessionId") == self.session and event["method"] in methods]

    def close(self):
        self.browser.call("Target.closeTarget", targetId=self.target)


def free_port():
    """A port that nobody has; each is given once, out of those below what the kernel gives to clients."""
    for port in PORTS:
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            try:
                tcp.bind(("", port))
                udp.bind(("", port))
                return port
            except OSError:
                pass
    raise AssertionError("no port is free")


class Echo(socketserver.ThreadingTCPServer):
    """Answers what it is sent, over TCP and UDP at one port."""

    allow_reuse_address, daemon_threads, request_queue_size = True, True, 256

    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            try:
                while piece := self.request.recv(65536):
                    self.request.sendall(piece)
            except OSError:
                pass

    def __init__(self, port=0):
        super().__init__(("127.0.0.1", port), self.Handler)
        self.port = self.server_address[1]
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        self.datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.datagrams.bind(("127.0.0.1", self.port))
        threading.Thread(target=self.answer, daemon=True).start()

    def answer(self):
        try:
            while True:
                piece, sender = self.datagrams.recvfrom(65536)
                self.datagrams.sendto(piece, sender)
        except OSError:
            pass

    def handle_error(self, request, client_address):
        pass


class Balancer:
    """A running balancer; HTTP in a file stands for the address of its dashboard, SOCKET for its socket."""

    def __init__(self, binary, text, http=None):
        self.binary, self.folder = binary, tempfile.mkdtemp(prefix="evenkeel-dashboard-")
        self.http = http or free_port()
        self.socket = os.path.join(self.folder, "admin.sock")
        self.file = os.path.join(self.folder, "evenkeel.yaml")
        Path(self.file).write_text(text.replace("HTTP", f"127.0.0.1:{self.http}").replace("SOCKET", self.socket))
        self.address = f"http://127.0.0.1:{self.http}/"
        self.start()

    def start(self):
        with open(os.path.join(self.folder, "log"), "ab") as log:
            self.child = subprocess.Popen([self.binary, "run", "--config", self.file], stderr=log, stdin=subprocess.DEVNULL)
        eventually("the balancer answers", lambda: self.ask("readyz", raw=True))

    def ask(self, path, raw=False):
        if self.child.poll() is not None:
            raise AssertionError("the balancer has ended: " + Path(self.folder, "log").read_text()[-2000:])
        with urllib.request.urlopen(self.address + path, timeout=10) as answer:
            text = answer.read()
        return text if raw else json.loads(text)

    def command(self, *arguments):
        environment = {**os.environ, "EVENKEEL_SOCKET": self.socket}
        return subprocess.run([self.binary, *arguments], env=environment, check=True, capture_output=True, text=True).stdout

    def kill(self):
        self.child.kill()
        self.child.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
