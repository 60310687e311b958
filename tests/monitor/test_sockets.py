"""The sockets that the web page listens on."""

from __future__ import annotations

import asyncio
import socket

from fsqueue.monitor.sockets import listen_on_port


def test_no_answer_waits_for_the_acknowledgement_of_its_first_part():
    listener = listen_on_port(0)

    async def option_of_a_connection():
        found = asyncio.get_running_loop().create_future()

        def connected(_, writer):
            accepted = writer.get_extra_info("socket")
            found.set_result(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        async with await asyncio.start_server(connected, sock=listener):
            _, writer = await asyncio.open_connection(*listener.getsockname())
            option = await found
            writer.close()
            return option

    assert asyncio.run(option_of_a_connection())
