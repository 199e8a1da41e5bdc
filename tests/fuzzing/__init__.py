"""Conversations with a peer who says anything at all, with real descriptors."""
