"""Behind a balancer that asks each machine whether it may send clients there: HAProxy stands for one of a cloud provider."""

import subprocess

from machines import conf, until
from pair import Clients, Pair, open_at_backends

FRONT = "192.0.2.30"
# As conf/ha/cloud.yaml says that it asks.
PROXY = """
defaults
  mode tcp
  timeout connect 2s
  timeout client 1m
  timeout server 1m
listen postgres
  bind 192.0.2.30:5432
  option httpchk GET /readyz
  balance roundrobin
  default-server check port 9901 inter 5s fall 2 rise 2 send-proxy-v2
  server one 192.0.2.11:5432
  server two 192.0.2.12:5432
"""


class Cloud(Pair):
    """conf/ha/cloud.yaml on both machines."""

    def furnish(self, balancer, keepalived):
        for machine in self.machines:
            machine.booted()
            machine.put("/etc/evenkeel/evenkeel.yaml", conf("cloud.yaml"))
            machine.sh("systemctl enable --now evenkeel")
        space = self.net.add("front")
        self.net.plug(space, "eth0", "br0", f"{FRONT}/24")
        with open(f"{self.folder}/haproxy.cfg", "w") as file:
            file.write(PROXY)
        self.net.start(space, "haproxy", "-db", "-f", f"{self.folder}/haproxy.cfg", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def settle(self):
        for machine in self.machines:
            machine.sh("systemctl start evenkeel")
            until("it knows its backends", machine.has_backends)
        until("no session is left", lambda: open_at_backends(self.folder) == 0)
        return self.machines[0], self.machines[1]

    def start_clients(self, seconds, *more):
        return Clients(self.net, self.clients, FRONT, seconds, "--flows", "0", *more)
