"""`python -m rekeyd.settings` prints the JSON schema, kept as config/rekeyd.schema.json."""

import json
import sys

from rekeyd.settings.model import Settings


def schema_text() -> str:
    """The schema as it is kept, newline included."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Settings.model_json_schema(),
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema_text())
