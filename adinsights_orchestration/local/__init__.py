"""The local stack: what cannot run on a laptop, played by real Postgres, one loopback service and the real Airbyte CDK.

For development and tests only: nothing outside this package, the tests and the `adinsights local` command imports it.
"""
