class InvalidTransition(Exception):
    """What is asked for is not allowed in the state that it is in (HTTP 409).

    The message says so.
    """
