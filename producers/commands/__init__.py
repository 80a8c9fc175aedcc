"""One module a sub-command; each offers `command`, loaded when it is called."""
