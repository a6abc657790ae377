"""How drawn scenes are made: stories say what happens, staging places the figures, the rest draws them."""
