"""A turn that has to wait for people leaves the processor, and costs nothing until it goes on."""

from typing import Literal


class Parked(Exception):
    """The turn can go no further now. Never leaves the loop, which journals why and returns."""

    def __init__(self, reason: Literal["approval", "paused"]) -> None:
        super().__init__(reason)
        self.reason: Literal["approval", "paused"] = reason
