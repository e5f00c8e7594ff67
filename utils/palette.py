"""Colours that every picture of the project uses."""

HEAT = "inferno"
DEPTH = "viridis_r"  # near = bright
OUTLINE = (0, 229, 255)  # cyan, absent from HEAT
INVALID_GREY = 0.93
