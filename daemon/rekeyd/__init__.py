"""rekeyd moves a tenant's backups under the tenant's own key, and proves it."""

__version__ = "0.1.0"
