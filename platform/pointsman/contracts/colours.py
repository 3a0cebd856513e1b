"""The colours of the two tracks, the same in every picture: the console, Grafana, and what commands draw.

Stands in the contracts because rooms that never import each other draw the same thing. Both have at least three
times the contrast of a white and of a near-black (`#181b1f`) background, as WCAG asks of the parts of a picture.
"""

from __future__ import annotations

THINK = "#5f62e6"
"""Deep: mode think, the slow and costly track."""

NO_THINK = "#12a594"
"""Light, and of another hue for who tells few apart: mode no_think, the fast and cheap one."""
