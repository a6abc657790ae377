"""Rooms that only some need: each has one door, and of the rooms outside only the app imports them."""
