"""The Faust agents: read, call the core, send on."""
