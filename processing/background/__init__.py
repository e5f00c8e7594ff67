"""Clouds without what lies around the part: plane, clusters, cleaned files, doubts about what is left."""
