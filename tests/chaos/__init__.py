"""A whole site of real processes and servers, in which everything is killed at some time."""
