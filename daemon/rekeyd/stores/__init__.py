"""Object stores: one small port, an adapter for each kind of store, and wrappers that hold for all."""
