"""Rooms that only some need: each has one door, and nothing in the rooms outside imports them."""
