"""Pages to look at results with: one HTML file each, self-contained, without network."""
