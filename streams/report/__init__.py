"""An incident told to people: lines on a terminal, the proof of its chain, one HTML page."""
