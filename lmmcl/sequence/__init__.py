"""One run: the tasks one after the other, what is checked before and proven on the way, and how it goes on."""
