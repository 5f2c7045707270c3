"""What an arrangement costs for an hour, from a table of prices (`prices.yaml`, or a user's own of that form)."""

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError

SHIPPED = Path(__file__).with_name("prices.yaml")


class BadPrices(ValueError):
    """No price can be told; the message names cause and cure."""


class Silicon(BaseModel):
    """One kind, and how its price is known."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    per_hour: PositiveFloat | None
    source: str
    as_of: date | None = None


class Prices(BaseModel):
    """A table. Arrangements are made of so many of each kind of silicon."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    currency: str
    silicon: Mapping[str, Silicon]
    arrangements: Mapping[str, Annotated[Mapping[str, PositiveInt], Field(min_length=1)]]

    def per_hour(self, arrangement: str) -> float:
        """Of all its silicon, in the table's currency.

        Raises:
            BadPrices: the table lacks the arrangement, or the price of one of its kinds of silicon.
        """
        if arrangement not in self.arrangements:
            known = ", ".join(self.arrangements) or "none"
            raise BadPrices(f"The price table has no arrangement {arrangement} (it has: {known}). Add it.")
        return sum(count * self.price(kind) for kind, count in self.arrangements[arrangement].items())

    def price(self, kind: str) -> float:
        """Of that kind of silicon, for an hour, in the table's currency.

        Raises:
            BadPrices: the table lacks it.
        """
        if kind not in self.silicon or (price := self.silicon[kind].per_hour) is None:
            raise BadPrices(f"The price table has no price for {kind}. Fill in silicon.{kind}.per_hour.")
        return price

    def sources(self, arrangement: str) -> dict[str, str]:
        """Kind of silicon -> where its price comes from and when it was read, for reports; raises as `per_hour`."""
        self.per_hour(arrangement)
        kinds = {kind: self.silicon[kind] for kind in self.arrangements[arrangement]}
        return {kind: f"{each.source} ({each.as_of or 'no date'})" for kind, each in kinds.items()}


def load_prices(path: Path = SHIPPED) -> Prices:
    """The table in a YAML (or JSON) file.

    Raises:
        BadPrices: it cannot be read, or has another form.
    """
    try:
        said: Any = yaml.safe_load(path.read_text())
    except OSError as error:
        raise BadPrices(f"cannot read {path}: {error.strerror}. Copy {SHIPPED} and fill it in.") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadPrices(f"{path} is not YAML: {error}. Copy {SHIPPED} and fill it in.") from error
    try:
        return Prices.model_validate(said)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, each['loc'])) or 'all of it'}: {each['msg']}" for each in error.errors()
        )
        raise BadPrices(f"{path}: {problems}. {SHIPPED} shows the form.") from error


def by_speed(prices: Prices, pace: int) -> Prices:
    """For two cores of which the encoder's is so many times slower than the other, and costs as much less.

    That is an assumption, and nobody's price. Where all that is compared has the same two cores, ratios do not hang on
    it.

    Raises:
        BadPrices: the table has no price of a `core`.
    """
    slow_price = prices.price("core") / pace
    core = prices.silicon["core"]
    slow = Silicon(
        per_hour=slow_price,
        source=f"Assumed: 1/{pace} of a core's price for 1/{pace} of its speed. The core's: {core.source}",
        as_of=core.as_of,
    )
    return Prices(
        currency=prices.currency,
        silicon={"core": core, "slow-core": slow},
        arrangements={name: {"core": 1, "slow-core": 1} for name in prices.arrangements},
    )


def tokens_per_dollar(tokens_per_s: float, price_per_h: float) -> float:
    """How many tokens one unit of the table's currency buys."""
    return 3600 * tokens_per_s / price_per_h
