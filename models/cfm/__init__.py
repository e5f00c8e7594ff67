"""Crossmodal Feature Mapping (Costanzino et al., CVPR 2024)."""
