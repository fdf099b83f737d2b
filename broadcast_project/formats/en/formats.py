"""Moments as readers of any English write and take them: 23 Nov 2026, 07:24.

Django's own are American, and differ between long and short; another language keeps Django's.
"""

DATE_FORMAT = "j F Y"
TIME_FORMAT = "H:i"
DATETIME_FORMAT = "j M Y, H:i"
SHORT_DATE_FORMAT = "j M Y"
SHORT_DATETIME_FORMAT = "j M Y, H:i"
