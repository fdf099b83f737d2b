"""Small apps of one shape; each raises events through the outbox, and none imports another."""
