"""Pair with `connect_from: client`: a second network, in which the backends are, and whose gateway moves with the shared address."""

import os
import re

from machines import ROOT, ip
from pair import Pair, start_backends

BACKENDS = {"b1": "10.0.1.21", "b2": "10.0.1.22", "b3": "10.0.1.23"}


class Transparent(Pair):
    """conf/ha with the lines for it, and the rules of docs/client-addresses.md."""

    def connect_backends(self):
        self.net.bridge("inside")
        self.inside = {}
        for number, machine in enumerate(self.machines):
            self.inside[machine.space] = self.net.plug(machine.space, "eth1", "inside", f"10.0.1.{11 + number}/24")
        self.net.plug(self.backends, "eth0", "inside", *[f"{address}/24" for address in BACKENDS.values()])
        ip(self.backends, "route", "add", "default", "via", "10.0.1.1")
        start_backends(self.net, self.backends, self.folder, BACKENDS)
        with open(os.path.join(ROOT, "docs/client-addresses.md")) as file:
            page = file.read()
        rules = re.search(r"```sh balancer\n(.*?)```", page, re.DOTALL).group(1)
        unit = re.search(r"```ini\n(\[Service\].*?)```", page, re.DOTALL).group(1)
        for machine in self.machines:
            machine.up()
            machine.put("/etc/systemd/system/evenkeel.service.d/client.conf", unit)
            machine.sh(rules)
        # The capability that the unit has is the only one then: no port below 1024 is served.
        self.furnish(
            [("192.0.2.2", "10.0.1.2"), ("    balance: source_hash\n", "    balance: source_hash\n    connect_from: client\n")],
            [("    # 10.0.1.1/24 dev eth1", "    10.0.1.1/24 dev eth1")],
        )

    def mend(self, machine):
        super().mend(machine)
        self.net.mend(self.inside[machine.space], "inside")
