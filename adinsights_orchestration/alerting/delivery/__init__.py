"""From the outbox into the channels, once each.

Belongs here: claiming, handing over, recording what came of it, and who stands in for whom. Does not belong here: how a
channel speaks (`channels`). Read `deliver` first.
"""
