#!/usr/bin/env python3
"""Backend: says its name to each connection and echoes; answers each datagram with its name and who sent it.

Usage: backend.py NAME ADDRESS TCP_PORT UDP_PORT STATE

STATE is a file that it keeps: how many connections are open.
"""

import asyncio
import sys

NAME, ADDRESS, TCP, UDP, STATE = sys.argv[1].encode(), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
OPEN = set()


def tell():
    with open(STATE, "w") as file:
        file.write(str(len(OPEN)))


async def serve(reader, writer):
    OPEN.add(writer)
    tell()
    try:
        writer.write(NAME + b"\n")
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    OPEN.discard(writer)
    tell()
    writer.close()


class Datagrams(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, _data, source):
        self.transport.sendto(b"%s %s:%d" % (NAME, source[0].encode(), source[1]), source)


async def main():
    tell()
    await asyncio.get_running_loop().create_datagram_endpoint(Datagrams, local_addr=(ADDRESS, UDP))
    server = await asyncio.start_server(serve, ADDRESS, TCP, backlog=4096)
    await server.serve_forever()


asyncio.run(main())
