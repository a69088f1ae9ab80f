"""Every numeric kernel as plain array code, one file per family: the specification that overrides are tested against."""
