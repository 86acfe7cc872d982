"""What runs inside a sandbox: the agent and its parts. Standard library only; copied into the root filesystem.

`frames.py`, `room.py` and the names in `bridge.py` are read on both sides of the wall; the rest never runs on the host.
"""
