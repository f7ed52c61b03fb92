"""Scripts whose figures the documents quote, and their results."""
