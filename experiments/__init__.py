"""One class from data to results, whatever the method: what happens with its test images, and its thresholds."""
