"""Routed machines: two, or three, that announce one address by BGP to a router, which spreads clients over them."""

from machines import Machine, Net, conf, ip, run, until
from pair import BACKENDS, Clients, open_at_backends, start_backends

ADDRESS = "203.0.113.10"


class Routed:
    """conf/ha/evenkeel.yaml and conf/ha/bird as they are, but for the two lines that are each machine's own."""

    def __init__(self, binary, folder):
        self.net, self.folder, self.binary = Net(), folder, binary
        self.machines, self.plugs = [], {}

    def set_up(self):
        self.clients, self.router = self.net.add("cl"), self.net.add("r")
        self.net.bridge("clients")
        self.net.plug(self.clients, "eth0", "clients", *[f"198.18.0.{n}/24" for n in range(20, 60)])
        self.net.plug(self.router, "clients", "clients", "198.18.0.1/24")
        ip(self.clients, "route", "add", "default", "via", "198.18.0.1")
        self.net.bridge("inside")
        self.backends = self.net.add("be")
        self.net.plug(self.backends, "eth0", "inside", *[f"{address}/24" for address in BACKENDS.values()])
        run("ip", "netns", "exec", self.router, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.fib_multipath_hash_policy=1")
        start_backends(self.net, self.backends, self.folder)
        with open(f"{self.folder}/router.conf", "w") as file:
            file.write(conf("bird/router.conf"))
        for number in range(2):
            self.machines.append(self.begin(number))
        files = ["-c", f"{self.folder}/router.conf", "-s", f"{self.folder}/router.ctl", "-P", f"{self.folder}/router.pid"]
        self.net.start(self.router, "bird", "-f", *files)
        for number, machine in enumerate(self.machines):
            self.furnish(machine, number)

    def begin(self, number):
        """A machine that boots, and its cables."""
        space = self.net.add(f"lb{number + 1}")
        wire = f"wire{number}"
        self.net.bridge(wire)
        base = 4 * number
        self.net.plug(self.router, wire, wire, f"198.51.100.{base + 1}/30")
        self.plugs[space] = self.net.plug(space, "eth0", wire, f"198.51.100.{base + 2}/30"), wire
        self.net.plug(space, "eth1", "inside", f"192.0.2.{11 + number}/24")
        ip(space, "route", "add", "default", "via", f"198.51.100.{base + 1}")
        # The address that clients know.
        ip(space, "addr", "add", f"{ADDRESS}/32", "dev", "lo")
        machine = Machine(space, self.binary)
        machine.routed = f"198.51.100.{base + 2}"
        return machine

    def furnish(self, machine, number):
        base = 4 * number
        machine.booted()
        machine.put("/etc/evenkeel/evenkeel.yaml", conf("evenkeel.yaml"))
        own = [("198.51.100.2;", f"198.51.100.{base + 2};"), ("198.51.100.1 ", f"198.51.100.{base + 1} ")]
        machine.place("bird/bird.conf", replace=own)
        machine.place("bird/evenkeel-announce", "755")
        machine.place("bird/evenkeel-follow.conf")
        machine.sh("systemctl daemon-reload; systemctl enable --now bird evenkeel evenkeel-follow")

    def ways(self):
        """Which machines the router sends clients to."""
        table = ip(self.router, "route", "show", ADDRESS)
        return {machine.routed for machine in self.machines if f"via {machine.routed} " in table}

    def settle(self):
        """All are well, and the router knows; the first two."""
        for machine in self.machines:
            plug, wire = self.plugs[machine.space]
            self.net.mend(plug, wire)
            machine.sh("evenkeel announce >/dev/null 2>&1 || true; systemctl start bird evenkeel evenkeel-follow")
            until("it knows its backends", machine.has_backends)
        until("the router has a way to each", lambda: len(self.ways()) == 2)
        for machine in self.machines:
            machine.sh("evenkeel close --all >/dev/null")
        until("no session is left", lambda: open_at_backends(self.folder) == 0)
        return self.machines[0], self.machines[1]

    def start_clients(self, seconds, *more):
        sources = ",".join(f"198.18.0.{number}" for number in range(20, 60))
        return Clients(self.net, self.clients, ADDRESS, seconds, "--sources", sources, *more)

    def end(self):
        for machine in self.machines:
            machine.end()
        self.net.end()
