"""Scores and maps in, figures out: metrics, result files, thresholds, tables. Knows no method."""
