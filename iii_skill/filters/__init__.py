"""The filter language of observers, pure: no engine, no wire, no clock."""
