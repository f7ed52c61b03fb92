"""The ground room: tools that every other room may use, and that use none of them."""
