"""A Docker host: samples, flows, programs, files, events and identity of its containers."""
