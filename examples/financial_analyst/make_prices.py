"""Write prices.csv: synthetic daily prices with the shape of real ones.

In: nothing (every number follows from the seeds below). Out: prices.csv beside this file, with one row per
ticker and trading day: date,ticker,open,high,low,close,volume. Run it again and the file is the same, byte
for byte. The tickers are real names; the prices are NOT real and say nothing about those companies.
"""

import csv
import math
import random
from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple


class Ticker(NamedTuple):
    symbol: str
    first_close: float
    yearly_drift: float
    yearly_volatility: float
    daily_volume: int


TICKERS = (
    Ticker("AAPL", 226.0, 0.16, 0.27, 52_000_000),
    Ticker("AMZN", 198.0, 0.20, 0.32, 41_000_000),
    Ticker("GOOGL", 171.0, 0.22, 0.29, 28_000_000),
    Ticker("MSFT", 428.0, 0.14, 0.23, 21_000_000),
    Ticker("NVDA", 139.0, 0.35, 0.48, 215_000_000),
)
LAST_DAY = date(2026, 10, 30)
TRADING_DAYS = 250
HOLIDAYS = {date(2025, 11, 27), date(2025, 12, 25), date(2026, 1, 1), date(2026, 7, 3), date(2026, 9, 7)}


def trading_days() -> list[date]:
    """The last TRADING_DAYS weekdays up to LAST_DAY that are no holiday, oldest first."""
    days: list[date] = []
    day = LAST_DAY
    while len(days) < TRADING_DAYS:
        if day.weekday() < 5 and day not in HOLIDAYS:
            days.append(day)
        day -= timedelta(days=1)
    return days[::-1]


def rows(ticker: Ticker, days: list[date]) -> list[list[str]]:
    """One geometric random walk; volume rises with the size of the day's move."""
    dice = random.Random(f"prices of {ticker.symbol}")
    daily_drift = (ticker.yearly_drift - ticker.yearly_volatility**2 / 2) / 252
    daily_volatility = ticker.yearly_volatility / math.sqrt(252)
    out: list[list[str]] = []
    close = ticker.first_close
    for day in days:
        open_ = close * math.exp(dice.gauss(0, daily_volatility * 0.35))
        move = dice.gauss(daily_drift, daily_volatility)
        close *= math.exp(move)
        high = max(open_, close) * math.exp(abs(dice.gauss(0, daily_volatility * 0.4)))
        low = min(open_, close) * math.exp(-abs(dice.gauss(0, daily_volatility * 0.4)))
        volume = int(ticker.daily_volume * math.exp(dice.gauss(0, 0.2)) * (1 + 8 * abs(move)))
        prices = (f"{price:.2f}" for price in (open_, high, low, close))
        out.append([day.isoformat(), ticker.symbol, *prices, str(volume)])
    return out


def main() -> None:
    days = trading_days()
    with (Path(__file__).parent / "prices.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("date", "ticker", "open", "high", "low", "close", "volume"))
        for ticker in TICKERS:
            writer.writerows(rows(ticker, days))


if __name__ == "__main__":
    main()
