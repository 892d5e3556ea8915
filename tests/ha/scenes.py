"""Scenes: what happens to one machine, and what clients may see of it. The figures are those of docs/two-machines.md."""

import json
import statistics
import time

from cloud import Cloud
from machines import conf, ip, run, until
from pair import SHARED, Pair
from routed import ADDRESS, Routed
from transparent import Transparent


class Check:
    """What came of a scene. In the short form figures are given four times as long: other tests run beside it."""

    def __init__(self, scene, is_long):
        self.is_long = is_long
        self.passed = self.failed = 0
        self.rows = []
        self.rounds = 3 if is_long else 1
        print(f" {scene.__name__}: {scene.__doc__.split(chr(10))[0].rstrip('.')}", flush=True)

    def that(self, what, holds, found=""):
        self.passed += bool(holds)
        self.failed += not holds
        print(f"  {'ok      ' if holds else 'FAILED  '}{what}{'' if holds else f': {found}'}", flush=True)

    def at_most(self, what, found, limit_ms):
        limit = limit_ms if self.is_long else limit_ms * 4 + 200
        self.that(f"{what}: {found} ms of {limit_ms}", found <= limit, f"more than {limit} ms")

    def same(self, what, wanted, found):
        self.that(what, wanted == found, f"wanted {wanted}, found {found}")

    def row(self, what, new, live, flows):
        self.rows.append((what, new, live, flows))


def median(seen, key):
    return round(statistics.median(one[key] for one in seen))


def worst(seen, key):
    return max(one[key] for one in seen)


def s(milliseconds):
    return f"{milliseconds / 1000:.2f} s"


def rounds(check, net, seconds, event, after=lambda: None):
    """Has something happen under load, from the beginning each time; what was seen each time. `event` prepares it, and returns what does it."""
    seen = []
    for _ in range(check.rounds):
        one, two = net.settle()
        act = event(one, two)
        clients = net.start_clients(seconds)
        clients.event()
        act()
        seen.append(clients.seen())
        print(f"   {json.dumps(seen[-1])}", flush=True)
        after()
    check.same("nobody failed before", 0, sum(one["early_failures"] for one in seen))
    return seen


def kill(one, _):
    pid = one.main_pid()
    return lambda: one.sh(f"kill -KILL {pid}")


def stop(one, _):
    return lambda: one.sh("systemctl stop --no-block evenkeel")


def spread(seen, key):
    """The median, and the worst."""
    middle, most = s(median(seen, key)), s(worst(seen, key))
    return middle if middle == most else f"{middle} (at most {most})"


# --- VRRP ------------------------------------------------------------------------------------------------------------


def vrrp_kill(net, check):
    """evenkeel is killed (kill -9) on the machine that has the address."""
    seen = rounds(check, net, 4, kill, lambda: check.that("the address has moved", net.holder() is net.machines[1]))
    check.at_most("new connections fail for (median)", median(seen, "failing_until_ms"), 300)
    check.same("flows go on", 0, worst(seen, "flows_dead"))
    check.row("VRRP: evenkeel is killed", f"fail for {spread(seen, 'failing_until_ms')}", "reset at once", f"silent for {spread(seen, 'flows_silence_ms')}")


def vrrp_stop(net, check):
    """`systemctl stop evenkeel` with `shutdown.delay: 2s`."""
    seen = rounds(check, net, 6, stop, lambda: check.that("the address has moved", net.holder() is net.machines[1]))
    check.at_most("new connections fail for (median)", median(seen, "failing_ms"), 150)
    check.row("VRRP: evenkeel is stopped", f"fail for {spread(seen, 'failing_ms')}", "reset when the address moves", f"silent for {spread(seen, 'flows_silence_ms')}")


def restarts(net, check, name, moves):
    """Restarts and upgrades of the first machine under load. `moves` tells how often the address or the route has moved so far."""
    count = 20 if check.is_long else 3
    one, _ = net.settle()
    clients = net.start_clients(2)
    before = moves()
    for _ in range(count):
        one.sh("systemctl restart evenkeel")
        one.sh("evenkeel upgrade")
    clients.event()
    seen = clients.seen()
    check.same("it has not moved", before, moves())
    check.same("new connections that failed", {}, seen["failures"])
    check.same("sessions that ended", {}, seen["live_why"])
    check.same("flows that ended", (0, 0), (seen["flows_dead"], seen["flows_other_source"]))
    check.row(f"{name}: {count} restarts and {count} upgrades", f"{seen['failed']} of {seen['made']} fail", f"{seen['live_ended']} of {seen['live']} end", "all go on")


def vrrp_restarts(net, check):
    """Restarts and upgrades: the address does not move, and nobody notices."""
    one = net.machines[0]
    restarts(net, check, "VRRP", lambda: one.sh("journalctl -q --no-pager -u keepalived -o cat | grep -c 'Entering' || true"))


def vrrp_cut(net, check):
    """The machine that has the address is cut off."""
    seen = rounds(check, net, 6, lambda one, _: lambda: net.net.cut(net.plugs[one.space]))
    check.at_most("new connections fail for (median)", median(seen, "failing_until_ms"), 600)
    check.same("living sessions are reset, all of them", {"reset": 40}, seen[0]["live_why"])
    check.at_most("after (median of the last)", median(seen, "live_ended_after_ms"), 1600)
    check.at_most("flows are silent for (median of the longest)", median(seen, "flows_silence_ms"), 600)
    check.same("flows have the same backend", 0, worst(seen, "flows_other_backend"))
    check.row("VRRP: the machine is cut off", f"fail for {spread(seen, 'failing_until_ms')}", f"reset within {spread(seen, 'live_ended_after_ms')}", f"silent for {spread(seen, 'flows_silence_ms')}, same backend")


def vrrp_loser(net, check):
    """keepalived is stopped: the machine that lost the address ends the sessions that came in by it."""
    one, _ = net.settle()
    clients = net.start_clients(4)
    clients.event()
    one.sh("systemctl stop --no-block keepalived")
    until("the address has left", lambda: not one.has(SHARED), every=0.005)
    began = time.monotonic()
    until("no session is left there", lambda: sessions(one) == 0 and connections(one) == 0, deadline=20)
    took = round((time.monotonic() - began) * 1000)
    clients.seen()
    check.at_most("the loser has no session of the address, and no connection to a backend, any more after", took, 1000)
    check.same("nor later", (0, 0), (sessions(one), connections(one)))
    check.row("VRRP: after the address has left", "-", f"the loser has given all their places back after {s(took)}", "-")


def sessions(machine):
    """Sessions that came to the shared address, as the machine knows them."""
    rows = json.loads(machine.sh(f"evenkeel sessions --local {SHARED} --json"))
    return len(rows["sessions"])


def connections(machine):
    """Connections of sessions to backends, as the kernel of the machine knows them."""
    return int(machine.sh("ss -Htn state established '( dport = :5432 )' | wc -l"))


def vrrp_maintenance(net, check):
    """`withdraw --wait`, stop, start, `announce`."""
    one, two = net.settle()
    clients = net.start_clients(5)
    clients.event()
    one.sh("evenkeel withdraw --wait --timeout 60s")
    check.that("the address has moved", net.holder() is two)
    one.sh("systemctl stop evenkeel; systemctl start evenkeel")
    check.same("it is withdrawn after a stop", "1\n", one.sh("cat /run/evenkeel-follow/unready"))
    one.sh("evenkeel announce")
    seen = clients.seen()
    until("it may have the address again", lambda: one.sh("cat /run/evenkeel-follow/unready") == "0\n")
    check.that("and does not take it back", net.holder() is two)
    check.at_most("new connections fail for", seen["failing_ms"], 150)
    check.row("VRRP: `withdraw --wait`, stop, start, `announce`", f"fail for {s(seen['failing_ms'])}", "reset when the address moves", f"silent for {s(seen['flows_silence_ms'])}")


def agreement(net, check):
    """Each source gets the same backend through both, by TCP and by UDP."""
    one, two = net.settle()
    count = 1000

    def numbers(machine):
        status = json.loads(machine.sh("evenkeel status --json"))
        return [pool["table"] for pool in status["pools"]], status["config"]["number"]

    def differ(what):
        for machine in (one, two):
            # Flows of before count until they are idle for a minute, and a listener may have a quarter of the process's.
            machine.sh("evenkeel close --all")
        found = json.loads(run("ip", "netns", "exec", net.clients, "/usr/bin/python3", "tests/ha/agree.py", "198.18", str(count), "5432", "27015", "192.0.2.11", "192.0.2.12"))
        check.same(f"{what}: sources of {count} that get another backend", 0, found["differ"])
        check.same("and each backend gets some", 3, found["backends"])
        check.same("datagrams that were lost", [], found["lost"])

    check.same("the same file: the numbers are the same", numbers(one), numbers(two))
    differ("the same file")
    text = conf("evenkeel.yaml")
    lines = text.splitlines(keepends=True)
    turned = [line for line in lines if "address:" not in line]
    for at in [index for index, line in enumerate(turned) if "backends:" in line][::-1]:
        port = "27015" if at > max(index for index, line in enumerate(turned) if "postgres:" in line) + 4 else "5432"
        turned[at + 1:at + 1] = [line for line in lines if "address:" in line and port in line][::-1]
    two.put("/etc/evenkeel/evenkeel.yaml", "".join(turned))
    two.sh("systemctl reload evenkeel")
    check.same("a list in another order: the numbers of the tables are the same", numbers(one)[0], numbers(two)[0])
    differ("a list in another order")
    for port, machine, order in [(port, machine, order) for port in ("5432", "27015") for machine, order in ((one, "231"), (two, "312"))]:
        rows = "".join(f"- {{ address: 192.0.2.2{digit}:{port}, name: b{digit} }}\n" for digit in order)
        machine.put(f"/etc/evenkeel/{port}.list", rows)
    found = "".join(line for line in lines if "address:" not in line)
    found = found.replace("    backends:\n", "    backends: [{ from: { file: /etc/evenkeel/5432.list } }]\n", 1)
    found = found.replace("    backends:\n", "    backends: [{ from: { file: /etc/evenkeel/27015.list } }]\n", 1)
    for machine in (one, two):
        machine.put("/etc/evenkeel/evenkeel.yaml", found)
        machine.sh("systemctl reload evenkeel")
    until("both have found all", lambda: all(machine.sh("evenkeel status --json | jq '[.pools[].eligible] == [3, 3]'") == "true\n" for machine in (one, two)))
    check.same("found in other orders: the numbers of the tables are the same", numbers(one)[0], numbers(two)[0])
    differ("found in other orders")
    for machine in (one, two):
        machine.put("/etc/evenkeel/evenkeel.yaml", text)
        machine.sh("systemctl reload evenkeel")
    check.row("another machine, the same client", "the same backend: 1,000 of 1,000 sources", "-", "the same backend as by TCP")


# --- BGP -------------------------------------------------------------------------------------------------------------


def others(seen):
    """Sessions of the machine that nothing happened to, and those that ended."""
    return f"{40 - median(seen, 'live_ended')} of 40 go on"


def bgp_kill(net, check):
    """evenkeel is killed (kill -9) on one of two machines."""
    seen = rounds(check, net, 4, kill)
    check.at_most("new connections fail until (median)", median(seen, "failing_until_ms"), 100)
    check.that("sessions of the other machine go on", all(0 < one["live_ended"] < 40 for one in seen))
    check.row("BGP: evenkeel is killed", f"some fail for {spread(seen, 'failing_until_ms')}", f"its own are reset, {others(seen)}", f"silent for {spread(seen, 'flows_silence_ms')}")


def bgp_stop(net, check):
    """`systemctl stop evenkeel` with `shutdown.delay: 2s`."""
    seen = rounds(check, net, 6, stop, lambda: check.same("the router sends everybody to the other", {net.machines[1].routed}, net.ways()))
    check.same("new connections that failed", [{}] * len(seen), [one["failures"] for one in seen])
    check.same("flows that ended", 0, worst(seen, "flows_dead"))
    check.row("BGP: evenkeel is stopped", f"{worst(seen, 'failed')} of {seen[0]['made']} fail", f"its own are reset when the route goes, {others(seen)}", f"silent for {spread(seen, 'flows_silence_ms')}")


def bgp_restarts(net, check):
    """Restarts and upgrades: the route does not move, and nobody notices."""
    net.settle()
    changes = f"{net.folder}/routes"
    with open(changes, "w") as file:
        watch = net.net.start(net.router, "ip", "monitor", "route", stdout=file)

    def moves():
        with open(changes) as file:
            return [line for line in file if ADDRESS in line]

    restarts(net, check, "BGP", moves)
    # Whoever watches does hear of a change.
    net.machines[0].sh("evenkeel withdraw")
    until("a change is heard of", moves)
    watch.kill()


def bgp_cut(net, check):
    """One of two machines is cut off from the router (BFD sees it)."""
    seen = rounds(check, net, 6, lambda one, _: lambda: net.net.cut(net.plugs[one.space][0]))
    check.at_most("new connections fail until (median)", median(seen, "failing_until_ms"), 600)
    check.same("living sessions are reset, but for those of the other", {"reset"}, set().union(*(one["live_why"] for one in seen)))
    check.at_most("after (median of the last)", median(seen, "live_ended_after_ms"), 1600)
    check.at_most("flows are silent for (median of the longest)", median(seen, "flows_silence_ms"), 600)
    check.same("flows have the same backend", 0, worst(seen, "flows_other_backend"))
    check.row("BGP with BFD: a machine is cut off", f"some fail for {spread(seen, 'failing_until_ms')}", f"its own are reset within {spread(seen, 'live_ended_after_ms')}, {others(seen)}", f"silent for {spread(seen, 'flows_silence_ms')}, same backend")


def bgp_maintenance(net, check):
    """`withdraw --wait`, stop, start, `announce`; and what BIRD reads anew says the same."""
    one, two = net.settle()
    clients = net.start_clients(3)
    clients.event()
    one.sh("evenkeel withdraw --wait --timeout 60s")
    check.same("the router sends everybody to the other", {two.routed}, net.ways())
    one.sh("birdc configure >/dev/null")
    one.sh("systemctl restart bird")
    one.sh("systemctl stop evenkeel; systemctl start evenkeel")
    time.sleep(1)
    check.same("also when BIRD has read its files again, and after a stop and a start", {two.routed}, net.ways())
    one.sh("evenkeel announce")
    seen = clients.seen()
    until("the router sends clients to both", lambda: len(net.ways()) == 2)
    one.sh("birdc configure >/dev/null; systemctl restart bird")
    until("and again, when BIRD was started anew", lambda: len(net.ways()) == 2)
    # One that has just come to be when its way changes is one of the living.
    check.same("new connections that failed otherwise than by a reset", 0, seen["failed"] - seen["failures"].get("reset", 0))
    check.that("and those that were under way when the way changed", seen["failures"].get("reset", 0) <= 3, seen["failures"])
    check.row("BGP: `withdraw --wait`, stop, start, `announce`", f"{seen['failed']} of {seen['made']} fail", "its own are reset when the route goes", f"silent for {s(seen['flows_silence_ms'])}")


def bgp_third(net, check):
    """A third machine joins two behind a resilient group."""
    one, two = net.settle()
    script = conf("bird/router-resilient")

    def group(*members):
        run("ip", "netns", "exec", net.router, "sh", "-s", "--", f"{ADDRESS}/32", *members, text=script)

    three = net.begin(2)
    net.machines.append(three)
    try:
        net.furnish(three, 2)
        until("it serves", lambda: three.sh("evenkeel status --ready || true").startswith("ready"))
        group(one.routed, two.routed)
        clients = net.start_clients(6)
        clients.event()
        group(one.routed, two.routed, three.routed)
        seen = clients.seen()
        check.same("new connections that failed", {}, seen["failures"])
        check.same("sessions that ended", {}, seen["live_why"])
        check.same("flows that reach their backend from another machine", 0, seen["flows_other_source"])
        begun = three.sh("evenkeel status --json | jq '[.listeners[].begun] | add'").strip()
        check.that("the third one serves", int(begun) > 0, begun)
        check.row("ECMP, resilient group: a third machine joins", f"{seen['failed']} of {seen['made']} fail", f"{seen['live_ended']} of {seen['live']} reset", "none moved")
    finally:
        ip(net.router, "route", "del", f"{ADDRESS}/32", "metric", "5", check=False)
        net.machines.remove(three)
        three.end()


# --- UDP that outlives a machine -------------------------------------------------------------------------------------


def transparent_cut(net, check):
    """With `connect_from: client` on both, the machine that has the addresses is cut off on both sides."""
    def event(one, _):
        return lambda: [net.net.cut(plug) for plug in (net.plugs[one.space], net.inside[one.space])]

    seen = rounds(check, net, 6, event)
    check.same("flows with another backend", 0, worst(seen, "flows_other_backend"))
    check.same("flows that the backend sees from another address or port", 0, worst(seen, "flows_other_source"))
    check.same("flows that ended", 0, worst(seen, "flows_dead"))
    check.at_most("they are silent for (median of the longest)", median(seen, "flows_silence_ms"), 600)
    check.row("VRRP, `connect_from: client`: the machine is cut off", f"fail for {spread(seen, 'failing_until_ms')}", f"reset within {spread(seen, 'live_ended_after_ms')}", f"silent for {spread(seen, 'flows_silence_ms')}; same backend, same source port there")


# --- A balancer in front ---------------------------------------------------------------------------------------------


def cloud_stop(net, check):
    """`systemctl stop evenkeel` with `shutdown.delay: 15s`, behind a balancer that asks every 5 s."""
    one, _ = net.settle()
    clients = net.start_clients(20)
    clients.event()
    stop(one, None)()
    seen = clients.seen()
    check.same("new connections that failed", {}, seen["failures"])
    check.same("sessions that ended before `shutdown.grace`", {}, seen["live_why"])
    check.row("A balancer in front: evenkeel is stopped", f"{seen['failed']} of {seen['made']} fail", "go on for `shutdown.grace`", "-")


ALL = {
    Pair: [vrrp_kill, vrrp_stop, vrrp_restarts, vrrp_cut, vrrp_loser, vrrp_maintenance, agreement],
    Routed: [bgp_kill, bgp_stop, bgp_restarts, bgp_cut, bgp_maintenance, bgp_third],
    Transparent: [transparent_cut],
    Cloud: [cloud_stop],
}
SHORT = [vrrp_kill, vrrp_restarts, vrrp_loser, bgp_kill, bgp_restarts, bgp_maintenance]
