"""The connection to an agent whose standard input is the other end of a pair of sockets."""

import asyncio
import socket

from .channel import AgentChannel

_START_S = 20.0


async def connect(ours: socket.socket) -> AgentChannel:
    """Wait until the agent is ready. Takes the socket over. Raises ChannelClosed, TimeoutError and OSError."""
    try:
        _, channel = await asyncio.get_running_loop().create_unix_connection(AgentChannel, sock=ours)
    except BaseException:
        ours.close()
        raise
    try:
        async with asyncio.timeout(_START_S):
            await channel.ready
    except BaseException:
        channel.close()
        raise
    return channel
