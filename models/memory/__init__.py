"""Methods that remember nominal rows and compare with the nearest: coreset, neighbours, banks."""
