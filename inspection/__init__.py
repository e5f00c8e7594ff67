"""One part in, one answer out: a trained detector for single parts, with a decision and where the defects are."""
