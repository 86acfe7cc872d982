"""For all kinds of tests."""

from hypothesis import settings

# How long an example takes says more of the machine's load than of the code under test.
settings.register_profile("greenroom", deadline=None)
settings.load_profile("greenroom")
