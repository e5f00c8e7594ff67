"""DBMRNet: masked dual-branch reconstruction of image and cloud, trained from scratch on nominal samples.

Symbols beside those of `models`: S side of the network's image, N sampled points, G0 ⊃ G1 ⊃ G2 centres of the three
stages, k neighbours of a centre, T2 image tokens, T3 = G2 point tokens, V visible tokens of a modality, D width of a
token, R points rebuilt for a point token, K passes with different tokens visible.
"""
