"""Where the archive lies: a bucket of S3 or GCS, or a folder, behind one small contract.

Belongs here: creating, reading, listing and removing objects. Does not belong here: what stands in them. Read
`contract` first; `opening` chooses, `bucket` and `folder` are the kinds, `probing` asks one whether it keeps to it.
"""
