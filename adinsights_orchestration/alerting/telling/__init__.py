"""Who is told what, when: from incidents as they stand to messages that are to be sent, decided and not yet written.

Belongs here: groups, their moments, their words, digests; pure. Does not belong here: incidents' states (`evaluation`),
sending (`delivery`). Read `grouping` first, which is the vocabulary, then `notify`.
"""
