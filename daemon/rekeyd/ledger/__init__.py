"""The ledger: the durable record of tenants, keys, jobs, segments and objects."""
