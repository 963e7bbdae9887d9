"""One evaluation: rules judge facts, incidents move, and what is to be said goes into the outbox.

Belongs here: the incident's state machine and what it is fed with. Does not belong here: reading facts (`gathering`),
words (`telling`), sending. Read `evaluate` first; `engine` is the same without its rows, `incidents` the state machine.
"""
