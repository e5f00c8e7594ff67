"""From Eyecandies as released to organised clouds."""
