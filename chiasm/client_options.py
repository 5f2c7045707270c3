"""The options of commands that speak to a running endpoint."""

from pathlib import Path
from typing import Any

import click

from chiasm.client import API_KEY_VARIABLE
from chiasm.config import GatewayConfig
from chiasm.listening import base_url

_DEFAULT = base_url(GatewayConfig().host, GatewayConfig().port)

endpoint = click.option("--endpoint", default=_DEFAULT, show_default=True, help="A gateway's base URL.")
api_key = click.option(
    "--api-key", envvar=API_KEY_VARIABLE, show_envvar=True, help="Bearer token, if the gateway wants one."
)


def _named(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if not value.strip():
        raise click.BadParameter("it is empty. Give the X-Request-Id of an answer.")
    return value


request_id = click.argument("request_id", callback=_named)

PICTURES = (".svg", ".png")


class PictureFile(click.Path):
    """A file to draw into, whose ending says in which format. Looked at before anything is done for the picture."""

    def __init__(self) -> None:
        super().__init__(dir_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path.

        Raises:
            click.BadParameter: it ends in no format that is drawn.
        """
        path = super().convert(value, param, ctx)
        assert isinstance(path, Path)  # as path_type says
        if path.suffix.lower() not in PICTURES:
            self.fail(
                f"{path} does not say in which format to draw. Let it end in {' or '.join(PICTURES)}.", param, ctx
            )
        return path
