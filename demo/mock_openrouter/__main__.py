"""A mock OpenRouter with an exact ledger, and beside it a strict foreign server.

`python -m demo.mock_openrouter --port 9191` serves OpenRouter's API under `/api/v1`, the foreign
one under `/foreign/v1`, a proxy in front of OpenRouter under `/proxy/v1`, the ledger under
`/__ledger`, until the process is stopped.
"""

import argparse

import uvicorn

from demo.mock_openrouter.server import build_app

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--port", type=int, default=9191)
uvicorn.run(build_app(), host="127.0.0.1", port=parser.parse_args().port, log_level="warning")
