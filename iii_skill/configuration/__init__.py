"""What `configuration::*` means: entries with a schema, their triggers, and the entry of the state worker."""
