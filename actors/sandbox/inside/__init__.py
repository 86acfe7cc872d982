"""What runs inside a sandbox: the agent and its parts. Standard library only; copied into the root filesystem.

`frames.py` is read on both sides of the wall, and so are the names in `bridge.py`; the rest never runs on the host.
"""
