"""Pictures: one figure a test image, one contact sheet a class, the loss curves of a run."""
