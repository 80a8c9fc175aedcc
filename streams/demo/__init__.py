"""The main job on an embedded broker: a simulated fleet, attacked, judged and answered.

Everything between fleet and screen is the real thing: gather, judge and governor are the
processes that a deployment runs. Only the broker, the fleet and its time are simulated.
"""
