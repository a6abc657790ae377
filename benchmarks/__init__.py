"""Scripts that measure speed and memory, side by side with plain references; README.md says what is compared."""
