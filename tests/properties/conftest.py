"""Settings of hypothesis: few examples, no clock, and on a build machine always the same ones."""

import os

from hypothesis import settings

settings.register_profile("desk", max_examples=10, deadline=None)
settings.register_profile("ci", max_examples=10, deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "desk")
