"""Everything that an OpenRouter has been seen to send, by name.

A test plays them one by one; `greenroom model-server` plays them to any client.
"""

from .wire_answers import ANSWERS, REASONING, TOOLS, Fixture
from .wire_errors import AFTER, BEFORE, RESETS

FIXTURES: dict[str, Fixture] = {**ANSWERS, **TOOLS, **REASONING, **BEFORE, **AFTER, **RESETS}
