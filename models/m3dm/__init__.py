"""M3DM (Wang et al., CVPR 2023): banks of RGB, of geometry and of both together, and a decision over all three."""
