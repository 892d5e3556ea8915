#!/usr/bin/env python3
"""Traffic that notices everything: for tests of restarts and upgrades.

  crowd.py serve TCP UDP                      echo; udp answers tell the port that the datagram came from
  crowd.py load HOST TCP UDP [options]        until the file of --until is there, then one line of JSON

Sessions are of four kinds: request and answer all the time, bulk both ways with every byte checked, idle until the end,
and short ones that come and go. Flows notice when another socket speaks for them. Nothing is tried twice.
"""
import argparse
import errno
import json
import os
import selectors
import socket
import struct
import time

PATTERN = bytes((i * 7 + (i >> 8) * 13) & 255 for i in range(65536)) * 3


def pattern(position, length):
    start = position % 65536
    return PATTERN[start:start + length]


class Server:
    def __init__(self, tcp, udp):
        self.selector = selectors.DefaultSelector()
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("0.0.0.0", tcp))
        listener.listen(4096)
        listener.setblocking(False)
        self.selector.register(listener, selectors.EVENT_READ, self.accept)
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("0.0.0.0", udp))
        self.udp.setblocking(False)
        self.selector.register(self.udp, selectors.EVENT_READ, self.answer)
        self.waiting = {}

    def accept(self, listener, _):
        try:
            peer, _ = listener.accept()
        except OSError:
            return
        peer.setblocking(False)
        self.waiting[peer] = bytearray()
        self.selector.register(peer, selectors.EVENT_READ, self.echo)

    def echo(self, peer, events):
        waiting = self.waiting[peer]
        try:
            if events & selectors.EVENT_READ and len(waiting) < 1 << 20:
                came = peer.recv(262144)
                if not came:
                    raise ConnectionError
                waiting += came
            if waiting:
                del waiting[:peer.send(waiting)]
        except BlockingIOError:
            pass
        except OSError:
            self.selector.unregister(peer)
            del self.waiting[peer]
            peer.close()
            return
        wanted = (selectors.EVENT_READ if len(waiting) < 1 << 20 else 0) | (selectors.EVENT_WRITE if waiting else 0)
        self.selector.modify(peer, wanted, self.echo)

    def answer(self, _, __):
        for _ in range(64):
            try:
                came, who = self.udp.recvfrom(2048)
                self.udp.sendto(came + struct.pack("!H", who[1]), who)
            except OSError:
                return

    def run(self):
        while True:
            for key, events in self.selector.select():
                key.data(key.fileobj, events)


class Load:
    def __init__(self, options):
        self.options = options
        self.to = (options.host, options.tcp)
        self.selector = selectors.DefaultSelector()
        self.told = {name: 0 for name in (
            "exchanges", "lost", "wrong", "bulk_bytes", "short", "refused", "udp_exchanges", "udp_moved", "udp_unanswered")}
        self.told["errors"] = []
        self.gap = 0.0
        self.ticking = True

    def connect(self):
        return socket.create_connection(self.to, timeout=30)

    def fail(self, kind, error):
        self.told[kind] += 1
        if len(self.told["errors"]) < 10:
            self.told["errors"].append(f"{kind}: {error!r}")

    def begin(self):
        options = self.options
        for number in range(options.exchange):
            session = {"socket": self.connect(), "number": number, "sent": 0, "expected": b"", "at": time.monotonic()}
            session["socket"].setblocking(False)
            self.selector.register(session["socket"], selectors.EVENT_READ, (self.on_exchange, session))
            self.ask(session)
        for _ in range(options.bulk):
            session = {"socket": self.connect(), "sent": 0, "came": 0}
            session["socket"].setblocking(False)
            both = selectors.EVENT_READ | selectors.EVENT_WRITE
            self.selector.register(session["socket"], both, (self.on_bulk, session))
        self.idle = [self.connect() for _ in range(options.idle)]
        self.flows = []
        for number in range(options.flows):
            flow = {"socket": socket.socket(socket.AF_INET, socket.SOCK_DGRAM), "port": None, "asked": 0, "open": None}
            flow["socket"].connect((options.host, options.udp))
            flow["socket"].setblocking(False)
            self.selector.register(flow["socket"], selectors.EVENT_READ, (self.on_datagram, flow))
            self.flows.append(flow)

    def ask(self, session):
        session["sent"] += 1
        session["expected"] = b"%d of %d." % (session["sent"], session["number"])
        session["at"] = time.monotonic()
        session["socket"].send(session["expected"])

    def drop(self, session, kind, error):
        self.fail(kind, error)
        self.selector.unregister(session["socket"])
        session["socket"].close()
        session["closed"] = True

    def on_exchange(self, session, _):
        try:
            came = session["socket"].recv(4096)
            if not came:
                raise ConnectionError("closed")
            if not session["expected"].startswith(came):
                return self.drop(session, "wrong", came)
            session["expected"] = session["expected"][len(came):]
            if not session["expected"]:
                took = time.monotonic() - session["at"]
                self.gap = max(self.gap, took)
                self.told["exchanges"] += 1
                if self.ticking:
                    self.ask(session)
        except BlockingIOError:
            pass
        except OSError as error:
            self.drop(session, "lost", error)

    def on_bulk(self, session, events):
        try:
            if events & selectors.EVENT_READ:
                came = session["socket"].recv(65536)
                if not came:
                    raise ConnectionError("closed")
                if came != pattern(session["came"], len(came)):
                    return self.drop(session, "wrong", "bulk")
                session["came"] += len(came)
                self.told["bulk_bytes"] += len(came)
            ahead = session["sent"] - session["came"]
            if events & selectors.EVENT_WRITE and self.ticking and ahead < 4 << 20:
                session["sent"] += session["socket"].send(pattern(session["sent"], 65536))
            wants_more = self.ticking and session["sent"] - session["came"] < 4 << 20
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if wants_more else 0)
            self.selector.modify(session["socket"], events, (self.on_bulk, session))
        except BlockingIOError:
            pass
        except OSError as error:
            self.drop(session, "lost", error)

    def on_datagram(self, flow, _):
        try:
            came = flow["socket"].recv(2048)
        except BlockingIOError:
            return
        except OSError as error:
            return self.fail("udp_unanswered", error)
        number, port = struct.unpack("!QH", came)
        if number == flow["asked"]:
            flow["open"] = None
            self.told["udp_exchanges"] += 1
        if flow["port"] not in (None, port):
            self.fail("udp_moved", f"{flow['port']} -> {port}")
        flow["port"] = port

    def send_datagrams(self, now):
        for flow in self.flows:
            if flow["open"] is not None:
                if now - flow["open"] < 5:
                    continue
                self.fail("udp_unanswered", "no answer for 5 s")
            flow["asked"] += 1
            flow["open"] = now
            try:
                flow["socket"].send(struct.pack("!Q", flow["asked"]))
            except OSError as error:
                self.fail("udp_unanswered", error)

    def short_session(self):
        try:
            with self.connect() as session:
                session.sendall(b"short")
                came = b""
                while len(came) < 5:
                    part = session.recv(5)
                    if not part:
                        raise ConnectionError("closed early")
                    came += part
                self.told["short"] += 1
        except OSError as error:
            kind = "refused" if error.errno == errno.ECONNREFUSED else "lost"
            self.fail(kind, error)

    def turn(self, wait):
        for key, events in self.selector.select(wait):
            act, session = key.data
            act(session, events)

    def run(self):
        self.begin()
        if self.options.ready:
            open(self.options.ready, "w").close()
        next_flows = next_short = 0
        while not os.path.exists(self.options.until):
            self.turn(0.002)
            now = time.monotonic()
            if now >= next_flows:
                next_flows = now + 0.1
                self.send_datagrams(now)
            if self.options.short and now >= next_short:
                next_short = now + 0.01
                self.short_session()
        # What is under way comes to its end.
        self.ticking = False
        deadline = time.monotonic() + 30
        live = lambda: [key.data[1] for key in self.selector.get_map().values()]
        is_open = lambda session: session.get("expected") or session.get("sent", 0) > session.get("came", 1 << 62) or session.get("open")
        while any(is_open(session) for session in live()) and time.monotonic() < deadline:
            self.turn(0.05)
        for session in live():
            if is_open(session):
                self.fail("lost", "nothing came any more")
        for session in self.idle:
            try:
                session.settimeout(30)
                session.sendall(b"still there")
                if session.recv(100) != b"still there":
                    raise ConnectionError("closed")
            except OSError as error:
                self.fail("lost", error)
        self.told["gap_ms"] = round(self.gap * 1000, 1)
        print(json.dumps(self.told), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve")
    load = commands.add_parser("load")
    load.add_argument("host")
    for one in (serve, load):
        one.add_argument("tcp", type=int)
        one.add_argument("udp", type=int)
    for name, default in (("exchange", 64), ("bulk", 8), ("idle", 500), ("flows", 200), ("short", 1)):
        load.add_argument(f"--{name}", type=int, default=default)
    load.add_argument("--until", required=True)
    load.add_argument("--ready")
    options = parser.parse_args()
    if options.command == "serve":
        Server(options.tcp, options.udp).run()
    Load(options).run()


if __name__ == "__main__":
    main()
