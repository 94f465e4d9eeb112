"""Doctor: looks at a set-up as a user has it, and says what is wrong and how to mend it."""
