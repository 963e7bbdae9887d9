"""What people and jobs do to alerts: look, acknowledge, silence, replay, try a channel, open a maintenance window.

Belongs here: what each does, whoever asks. Does not belong here: the command line (`cli.alerts`).
"""
