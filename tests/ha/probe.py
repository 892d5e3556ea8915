#!/usr/bin/env python3
"""Clients: what they see while something happens to a balancer. Prints one line of JSON.

Usage: probe.py ADDRESS TCP_PORT UDP_PORT SECONDS [--live N] [--flows N] [--sources A,B,...]

New connections at 100/s, living sessions that exchange 8 bytes every 20 ms, flows that ask every 20 ms. SIGUSR1 marks the event;
all times are milliseconds after it. Prints `ready` on standard error when the sessions live and each flow has been answered.
"""

import argparse
import asyncio
import collections
import json
import signal
import sys
import time

parser = argparse.ArgumentParser()
parser.add_argument("address")
parser.add_argument("tcp", type=int)
parser.add_argument("udp", type=int)
parser.add_argument("seconds", type=float)
parser.add_argument("--live", type=int, default=40)
parser.add_argument("--flows", type=int, default=40)
parser.add_argument("--sources", default="")
ARGS = parser.parse_args()
SOURCES = ARGS.sources.split(",") if ARGS.sources else [None]
now = time.monotonic
EVENT, NEW, LIVE, FLOWS = [], [], [], []
EVERY = 0.01
CONNECT_MAX = 1.0
ANSWER_MAX = 6.0


def over():
    """So long after the event."""
    return bool(EVENT) and now() > EVENT[0] + ARGS.seconds


def why(error):
    names = {"ConnectionRefusedError": "refused", "ConnectionResetError": "reset", "TimeoutError": "timeout",
             "IncompleteReadError": "closed", "BrokenPipeError": "reset"}
    return names.get(type(error).__name__, f"{type(error).__name__} {error}")


async def dial(index):
    source = SOURCES[index % len(SOURCES)]
    return await asyncio.open_connection(ARGS.address, ARGS.tcp, local_addr=(source, 0) if source else None)


async def one(index):
    began, writer = now(), None
    try:
        async with asyncio.timeout(CONNECT_MAX):
            reader, writer = await dial(index)
            await reader.readuntil(b"\n")
        NEW.append((began, now(), None))
    except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
        NEW.append((began, now(), why(error)))
    if writer:
        writer.close()


async def connects():
    index, due, tasks = 0, now(), set()
    while not over():
        task = asyncio.create_task(one(index))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        index += 1
        # A pause of this program is no burst of its clients.
        due = max(due + EVERY, now() - 0.05)
        await asyncio.sleep(max(0, due - now()))
    if tasks:
        await asyncio.wait(tasks, timeout=CONNECT_MAX + 0.5)


async def session(index):
    state = {"ended": None, "why": None, "silence": 0.0, "rounds": 0}
    LIVE.append(state)
    try:
        reader, writer = await dial(index)
        await reader.readuntil(b"\n")
        last = now()
        while not over():
            writer.write(b"12345678")
            await writer.drain()
            await asyncio.wait_for(reader.readexactly(8), ANSWER_MAX)
            state["silence"] = max(state["silence"], now() - last)
            last = now()
            state["rounds"] += 1
            await asyncio.sleep(0.02)
        writer.close()
    except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
        state["ended"], state["why"] = now(), why(error)


class Flow(asyncio.DatagramProtocol):
    def __init__(self):
        self.last, self.silence, self.names, self.seen = None, 0.0, [], []

    def connection_made(self, transport):
        self.transport = transport

    def error_received(self, _error):
        pass

    def datagram_received(self, data, _source):
        name, seen = data.decode().split()
        if self.last:
            self.silence = max(self.silence, now() - self.last)
        self.last = now()
        for value, values in ((name, self.names), (seen, self.seen)):
            if value not in values:
                values.append(value)


async def flow(index):
    source = SOURCES[index % len(SOURCES)] or "0.0.0.0"
    endpoint = asyncio.get_running_loop().create_datagram_endpoint
    _, one = await endpoint(Flow, local_addr=(source, 0), remote_addr=(ARGS.address, ARGS.udp))
    FLOWS.append(one)
    while not over():
        one.transport.sendto(b"x")
        await asyncio.sleep(0.02)


async def tell_ready():
    def is_ready():
        alive = sum(state["rounds"] > 0 for state in LIVE) == ARGS.live
        return alive and len(FLOWS) == ARGS.flows and all(flow.last for flow in FLOWS) and len(NEW) > 50
    while not is_ready():
        await asyncio.sleep(0.02)
    # Silences of the beginning are not looked at.
    for state in LIVE:
        state["silence"] = 0.0
    for one in FLOWS:
        one.silence = 0.0
    print("ready", file=sys.stderr, flush=True)


async def main():
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, lambda: EVENT.append(now()))
    await asyncio.gather(
        connects(), tell_ready(), *(session(index) for index in range(ARGS.live)), *(flow(index) for index in range(ARGS.flows)))


asyncio.run(main())
event = EVENT[0]


def ms(moment):
    return round((moment - event) * 1000)


good = sorted(began for began, _, error in NEW if not error)
bad = sorted((began, ended) for began, ended, error in NEW if error)
ended = [state for state in LIVE if state["why"]]
print(json.dumps({
    "made": len(good),
    "failed": len(bad),
    "failures": dict(collections.Counter(error for _, _, error in NEW if error)),
    "early_failures": sum(began < event - 0.05 for began, _ in bad),
    # From the event until a connection that begins succeeds for good; and the longest time without one that did.
    "failing_until_ms": ms(bad[-1][0]) if bad else 0,
    "failing_ms": ms(bad[-1][0]) - ms(bad[0][0]) + round(EVERY * 1000) if bad else 0,
    "gap_ms": round(max((later - earlier for earlier, later in zip(good, good[1:])), default=0) * 1000),
    "live": len(LIVE),
    "live_ended": len(ended),
    "live_why": dict(collections.Counter(state["why"] for state in ended)),
    "live_ended_after_ms": max((ms(state["ended"]) for state in ended), default=0),
    "live_silence_ms": round(max((state["silence"] for state in LIVE if not state["why"]), default=0) * 1000),
    "flows": len(FLOWS),
    "flows_silence_ms": round(max((one.silence for one in FLOWS), default=0) * 1000),
    "flows_dead": sum(not one.last or one.last < event + ARGS.seconds - 1 for one in FLOWS),
    "flows_other_backend": sum(len(one.names) > 1 for one in FLOWS),
    "flows_other_source": sum(len(one.seen) > 1 for one in FLOWS),
}))
