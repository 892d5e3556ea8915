"""Pair: two machines that share one address by VRRP, and what clients see of it."""

import json
import os
import signal
import subprocess

from machines import ROOT, Machine, Net, conf, ip, run, until

HERE = os.path.join(ROOT, "tests/ha")
SHARED = "192.0.2.100"
TCP, UDP = "5432", "27015"
BACKENDS = {"b1": "192.0.2.21", "b2": "192.0.2.22", "b3": "192.0.2.23"}


class Clients:
    """A run of probe.py."""

    def __init__(self, net, space, address, seconds, *more):
        command = ["/usr/bin/python3", f"{HERE}/probe.py", address, TCP, UDP, str(seconds), *more]
        self.process = net.start(space, *command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = self.process.stderr.readline()
        if line != "ready\n":
            raise RuntimeError(f"the clients do not come to be: {line}{self.process.stderr.read()}")

    def event(self):
        # `ip netns exec` becomes the program.
        self.process.send_signal(signal.SIGUSR1)

    def seen(self):
        out, error = self.process.communicate(timeout=180)
        if self.process.returncode:
            raise RuntimeError(f"the clients ended: {error}")
        return json.loads(out)


def start_backends(net, space, folder, backends=None):
    for name, address in (backends or BACKENDS).items():
        net.start(space, "/usr/bin/python3", f"{HERE}/backend.py", name, address, TCP, UDP, f"{folder}/{name}")
    until("the backends run", lambda: all(os.path.exists(f"{folder}/{name}") for name in BACKENDS))


def open_at_backends(folder):
    """Connections that the backends have."""
    total = 0
    for name in BACKENDS:
        with open(f"{folder}/{name}") as file:
            total += int(file.read() or 0)
    return total


class Pair:
    """Two machines with keepalived, clients and backends at one switch: conf/ha/evenkeel.yaml and conf/ha/keepalived as they are."""

    def __init__(self, binary, folder):
        self.net, self.folder, self.binary = Net(), folder, binary
        self.machines, self.plugs = [], {}

    def mend(self, machine):
        """Its cables are as they were."""
        self.net.mend(self.plugs[machine.space], "br0")

    def set_up(self):
        self.net.bridge("br0")
        spaces = [self.net.add(name) for name in ("one", "two")]
        for number, space in enumerate(spaces):
            self.plugs[space] = self.net.plug(space, "eth0", "br0", f"192.0.2.{11 + number}/24")
            ip(space, "route", "add", "198.18.0.0/16", "via", "192.0.2.200")
        self.clients = self.net.add("cl")
        self.net.plug(self.clients, "eth0", "br0", "192.0.2.200/24", *[f"192.0.2.{n}/24" for n in range(130, 170)])
        ip(self.clients, "route", "add", "local", "198.18.0.0/16", "dev", "lo")
        self.backends = self.net.add("be")
        self.machines += [Machine(space, self.binary) for space in spaces]
        self.connect_backends()

    def connect_backends(self):
        self.net.plug(self.backends, "eth0", "br0", *[f"{address}/24" for address in BACKENDS.values()])
        start_backends(self.net, self.backends, self.folder)
        self.furnish([], [])

    def furnish(self, balancer, keepalived):
        """Puts the files where they belong, with these words of two of them replaced."""
        for machine in self.machines:
            machine.booted()
            machine.put("/etc/evenkeel/evenkeel.yaml", conf("evenkeel.yaml", replace=balancer))
            machine.place("keepalived/keepalived.conf", replace=keepalived)
            machine.place("keepalived/evenkeel-gone", "755")
            machine.place("keepalived/keepalived.service.conf")
            machine.sh("systemctl daemon-reload; systemctl enable --now evenkeel evenkeel-follow keepalived")

    def holder(self):
        """Who has the shared address; None: nobody or both."""
        has = [machine for machine in self.machines if machine.has(SHARED)]
        return has[0] if len(has) == 1 else None

    def settle(self):
        """Both are well, and the first has the address; the other one."""
        one, two = self.machines
        for machine in self.machines:
            self.mend(machine)
            machine.sh("evenkeel announce >/dev/null 2>&1 || true; systemctl start evenkeel evenkeel-follow keepalived")
            until("it is ready", lambda machine=machine: machine.sh("cat /run/evenkeel-follow/unready; evenkeel status --ready || true").startswith("0\nready"))
            # One that was cut off believes that its backends are down, until it has asked them again.
            until("it knows its backends", lambda machine=machine: machine.has_backends())
        until("one has the address", self.holder)
        if self.holder() is two:
            # Whoever stops says that it goes.
            two.sh("systemctl restart keepalived")
            until("the first has it", lambda: self.holder() is one)
        for machine in self.machines:
            machine.sh("evenkeel close --all >/dev/null")
        until("no session is left", lambda: open_at_backends(self.folder) == 0)
        # Whoever comes is to know where the address is.
        run("ip", "netns", "exec", self.clients, "bash", "-c", f"exec 3<>/dev/tcp/{SHARED}/{TCP} && head -n 1 <&3")
        return one, two

    def start_clients(self, seconds, *more):
        sources = ",".join(f"192.0.2.{number}" for number in range(130, 170))
        return Clients(self.net, self.clients, SHARED, seconds, "--sources", sources, *more)

    def end(self):
        for machine in self.machines:
            machine.end()
        self.net.end()
