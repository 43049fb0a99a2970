"""The S3 adapter: a thin signed client on aiohttp under the store port; the control plane on aiobotocore."""
