"""What holds for every test: a busy machine is no failure, so Hypothesis sets no deadline for one example."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("pointsman", deadline=None)
settings.load_profile("pointsman")
