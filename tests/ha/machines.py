"""Machines of the test: network namespaces, in which those that balance have a systemd of their own.

A machine that balances is what a reader of docs/two-machines.md has: evenkeel installed by scripts/install, keepalived and BIRD as
Debian's units, and the files of conf/ha at the places that their first lines name.
"""

import json
import os
import re
import signal
import subprocess
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BOOT = os.path.join(ROOT, "tests/systemd/run")
PARTS = "/opt/evenkeel-parts"
CLEAN = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
DEADLINE = 60


def run(*command, check=True, text=None):
    """Runs a command; what it said."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=180)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def ip(space, *words, check=True):
    """`ip` in a namespace."""
    return run("ip", "-n", space, *words, check=check)


def until(what, holds, deadline=DEADLINE, every=0.02):
    """Waits for a condition."""
    end = time.monotonic() + deadline
    while True:
        found = holds()
        if found:
            return found
        if time.monotonic() > end:
            raise RuntimeError(f"not within {deadline} s: {what}")
        time.sleep(every)


def conf(name, replace=()):
    """A file of conf/ha, with words of it replaced: each must be there."""
    with open(os.path.join(ROOT, "conf/ha", name)) as file:
        text = file.read()
    for old, new in replace:
        if old not in text:
            raise RuntimeError(f"conf/ha/{name} has no `{old}`")
        text = text.replace(old, new)
    return text


class Net:
    """Namespaces with cables between them and switches."""

    def __init__(self):
        self.tag = f"ek{os.getpid() % 10000}"
        self.spaces = []
        self.switch = self.add("sw")
        self.processes = []

    def add(self, name):
        space = f"{self.tag}-{name}"
        run("ip", "netns", "add", space)
        self.spaces.append(space)
        ip(space, "link", "set", "dev", "lo", "up")
        return space

    def bridge(self, name):
        ip(self.switch, "link", "add", name, "type", "bridge", "stp_state", "0", "forward_delay", "0", "mcast_snooping", "0")
        ip(self.switch, "link", "set", "dev", name, "up")

    def plug(self, space, device, bridge, *addresses):
        """A cable from a device to a switch; the name of its plug there."""
        plug = f"p{len(run('ip', '-n', self.switch, '-br', 'link').splitlines())}"
        ip(self.switch, "link", "add", plug, "type", "veth", "peer", "name", device, "netns", space)
        ip(self.switch, "link", "set", "dev", plug, "master", bridge)
        ip(self.switch, "link", "set", "dev", plug, "up")
        for address in addresses:
            ip(space, "addr", "add", address, "dev", device)
        ip(space, "link", "set", "dev", device, "up")
        return plug

    def cut(self, plug):
        """Nothing passes any more, and nobody is told: the cable looks well at both ends."""
        ip(self.switch, "link", "set", "dev", plug, "nomaster")

    def mend(self, plug, bridge):
        ip(self.switch, "link", "set", "dev", plug, "master", bridge)

    def start(self, space, *command, **more):
        process = subprocess.Popen(["ip", "netns", "exec", space, *command], stdin=subprocess.DEVNULL, **more)
        self.processes.append(process)
        return process

    def end(self):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        for space in self.spaces:
            run("ip", "netns", "del", space, check=False)


class Machine:
    """A machine with a systemd of its own in a namespace of the net."""

    def __init__(self, space, binary):
        self.space = space
        self.init = None
        hierarchy = run("findmnt", "-n", "-t", "cgroup2", "-o", "TARGET").split()[0]
        self.group = os.path.join(hierarchy, f"evenkeel-test-{space}")
        os.mkdir(self.group)
        self.log = tempfile.TemporaryFile("w+")
        script = 'echo $$ >"$1/cgroup.procs" && exec ip netns exec "$2" unshare --pid --mount --cgroup --uts --ipc --fork --kill-child -- bash "$3" boot "$4" ""'
        self.outer = subprocess.Popen(
            ["setsid", "bash", "-c", script, "_", self.group, space, BOOT, binary],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=subprocess.STDOUT,
        )

    def up(self):
        """Waits until systemd runs."""
        until(f"systemd runs in {self.space}", self._is_up)

    def booted(self):
        """And evenkeel is installed."""
        self.up()
        self.sh(f"{PARTS}/scripts/install --binary {PARTS}/evenkeel")

    def _is_up(self):
        if self.outer.poll() is not None:
            self.log.seek(0)
            raise RuntimeError(f"systemd did not come up: {self.log.read()[-2000:]}")
        if self.init is None:
            children = run("pgrep", "-P", str(self.outer.pid), check=False).split()
            for child in children:
                with open(f"/proc/{child}/comm") as file:
                    if file.read().strip() == "systemd":
                        self.init = child
        return self.init and re.match("running|degraded", self.sh("systemctl is-system-running || true"))

    def sh(self, script, check=True):
        """Runs a script of the shell inside; what it said."""
        words = ["nsenter", "--target", self.init, "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--"]
        clean = ["/usr/bin/env", "-i", *[f"{key}={value}" for key, value in CLEAN.items()]]
        return run(*words, *clean, "PATH=/usr/local/bin:" + CLEAN["PATH"], "sh", "-ec", script, check=check)

    def put(self, path, text, mode="644"):
        """Writes a file inside."""
        words = ["nsenter", "--target", self.init, "--mount", "--"]
        script = 'mkdir -p "$(dirname "$1")" && cat >"$1" && chmod "$2" "$1"'
        run(*words, "sh", "-ec", script, "_", path, mode, text=text)

    def place(self, name, mode="644", replace=()):
        """Puts a file of conf/ha where its first lines say that it belongs."""
        text = conf(name, replace=replace)
        path = re.search(r"^# (/etc/[\w./-]+)", text, re.MULTILINE).group(1)
        self.put(path, text, mode)

    def has(self, address):
        """Whether it has this address."""
        return f" {address}/" in ip(self.space, "-o", "addr")

    def has_backends(self):
        """Whether all backends of all pools may be picked."""
        status = self.sh("evenkeel status --json", check=False)
        return status and all(pool["eligible"] == len(pool["backends"]) for pool in json.loads(status)["pools"])

    def main_pid(self):
        return self.sh("systemctl show --value -p MainPID evenkeel").strip()

    def end(self):
        if self.init:
            # Power off.
            os.kill(int(self.init), signal.SIGRTMIN + 4)
            try:
                self.outer.wait(10)
            except subprocess.TimeoutExpired:
                pass
        if self.outer.poll() is None:
            os.killpg(self.outer.pid, signal.SIGKILL)
        self.outer.wait()
        for folder, _, _ in os.walk(self.group, topdown=False):
            try:
                os.rmdir(folder)
            except OSError:
                pass
