"""Who is compared: each module says what it needs to be set up, and fills, drains and enqueues in a measured process."""
