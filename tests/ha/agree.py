#!/usr/bin/env python3
"""Agreement: which backend each of many sources gets through one machine and through another, by TCP and by UDP.

Usage: agree.py NETWORK COUNT TCP_PORT UDP_PORT ADDRESS...

NETWORK is three numbers with a dot behind each two: 198.18; sources are 198.18.X.Y. Prints how many of them differ, and by how
many backends they are served.
"""

import json
import socket
import sys

network, count, tcp, udp, *addresses = sys.argv[1:]


def backend(kind, source, address):
    with socket.socket(socket.AF_INET, kind) as one:
        one.settimeout(3)
        one.bind((source, 0))
        if kind == socket.SOCK_STREAM:
            one.connect((address, int(tcp)))
            return one.recv(10).split()[0]
        one.connect((address, int(udp)))
        for _ in range(3):
            one.send(b"?")
            try:
                return one.recv(99).split()[0]
            except TimeoutError:
                # A datagram may be lost, and is told of.
                lost.append((source, address))
        raise TimeoutError(f"{source} is not answered by {address}")


differ, seen, lost = 0, set(), []
for number in range(int(count)):
    source = f"{network}.{number // 250}.{number % 250 + 1}"
    got = {backend(kind, source, address) for address in addresses for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)}
    seen |= got
    differ += len(got) > 1
print(json.dumps({"sources": int(count), "differ": differ, "backends": len(seen), "lost": lost}))
