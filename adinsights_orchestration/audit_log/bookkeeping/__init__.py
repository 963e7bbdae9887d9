"""What is archived, told twice: by the chain of manifests in the store, and by the ledger in the ops store.

Belongs here: what a manifest says, the chain, what a whole chain adds up to, and the ledger's tables. Does not belong
here: doing any of it. The chain is what is right, and a ledger that was lost is made anew from it. Read `manifest`
first, then `chain` and `standing`; `ledger` and `removal_ledger` follow from them.
"""
