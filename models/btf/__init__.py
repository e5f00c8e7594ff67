"""BTF (Horwitz and Hoshen, "Back to the Feature", CVPR Workshops 2023): hand-made and pretrained features in a bank."""
