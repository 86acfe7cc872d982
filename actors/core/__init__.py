"""Types that everything else speaks: events, messages, errors, money, time, ids, settings."""
