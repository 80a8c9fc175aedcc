"""The pure core of Plimsoll: what we know and how we decide; values in, values out.

Nothing in here reads a clock, the environment or a network. Live judging, replay and
evaluation run the same functions.
"""
