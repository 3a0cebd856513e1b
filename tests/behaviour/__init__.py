"""Shared by tests of several folders: what an engine must do, and a simulated replica to run it against."""

import pytest

pytest.register_assert_rewrite("behaviour.engine", "behaviour.engine_behaviour")
