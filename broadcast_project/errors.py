"""One JSON shape for every error: `{"status", "code", "message", "fields"}`."""
