"""What runs on a device: the hash, traced once and lowered many times. Knows nothing of blocks."""
