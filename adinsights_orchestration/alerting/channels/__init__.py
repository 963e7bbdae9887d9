"""Where messages go: Slack, e-mail and the log, behind one small contract.

Belongs here: how each shows a message, and what each of its answers means. Does not belong here: which of them a
deployment has (`delivery.opening`), what is sent and when. Read `sinks` first, which is the contract.
"""
