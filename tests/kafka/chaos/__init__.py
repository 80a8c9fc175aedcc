"""Faults on purpose: the whole line on a real Kafka, disturbed while records come.

::

    load ─► samples ─► gather ─► telemetry ─► worker ─► findings ─► govern ─► orders ─► respond
                                     └──── archive reads all of it ────┘  ▲              │
                                                                           └── outcomes ──┘

``make chaos`` runs ``python -m tests.kafka.chaos``. ``load`` writes frames, some of them
attacks, some of them junk; ``line`` holds the processes; ``faults`` disturbs them; ``oracle``
reads the log and tells what it should have led to; ``control`` shows by the same measure that
plain Faust loses messages, so that the measure can fail.
"""
