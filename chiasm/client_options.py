"""The options of every command that speaks to a running endpoint."""

import click

from chiasm.config import GatewayConfig
from chiasm.listening import base_url

_DEFAULT = base_url(GatewayConfig().host, GatewayConfig().port)

endpoint = click.option("--endpoint", default=_DEFAULT, show_default=True, help="A gateway's base URL.")
api_key = click.option("--api-key", envvar="CHIASM_API_KEY", help="Bearer token, if the gateway wants one.")
