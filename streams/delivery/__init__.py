"""What Faust needs to lose nothing: the way of a record through one worker.

::

    polling ─► consumer.LeanConsumer ─► stream.LeanStream.batches() ─► agent ─► outbox.Outbox
                    ▲    positions           acknowledged after the body         late.LateTable
                    │                                                               │
                    └── commit: outputs durable → state durable → offsets ◄─────────┘

An agent of several topics takes ``stream.merged()``: all of them as one log (``merge``).
``recovery`` reads tables back without losing or hanging, ``continuity`` notices a hole,
``rejected`` keeps what cannot be used, ``lease`` keeps a worker whose session is over from
writing, ``watchdog`` ends a worker that stands still. ``app.make_app`` puts it together.
docs/faust.md tells what stock Faust does and why this is needed.

Everything here leans on private parts of faust-streaming 0.15.3;
tests/kafka/test_faust_pinned.py names each and fails when upstream changes one.
"""
