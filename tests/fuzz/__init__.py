"""Hostile input for everything that reads: ``make fuzz COUNT=1000000``.

``targets`` is the register: one line for each decoder, file, source and command input.
``lines`` are the judge, governor, gather, responder and archive, fed batches in which hostile
records lie beside good ones. ``hostile`` makes the input, ``guided`` lets coverage choose it.
"""
