"""A fleet that exists only here: for showing, trying and testing, without Docker."""

from producers.sources.simulated.fleet import Fleet
from producers.sources.simulated.stories import STORIES, Running, Story
from producers.sources.simulated.variations import varied

__all__ = ["STORIES", "Fleet", "Running", "Story", "varied"]
