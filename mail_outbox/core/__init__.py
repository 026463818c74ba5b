"""Values and decisions: no database, no settings, no clock, no network."""
