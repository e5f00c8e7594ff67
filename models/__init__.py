"""Methods and extractors. Symbols in every docstring below this folder:

B batch, H = W side of the pixel grid (224), N valid points, G groups of points (1024), M points in a group (128),
T RGB tokens (784), D width of a feature, P foreground pixels.
"""
