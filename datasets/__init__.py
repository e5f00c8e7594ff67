"""From a dataset's folders to samples: records (scan and pair files), samples (read and check), generated scenes.

A flat package. Raw data lies in its sub-folders (`datasets/mvtec3d`), which git ignores.
"""
