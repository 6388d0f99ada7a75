"""What a test may set about the simulated account, beside faults and the clock."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_PDF_BYTES = 4 * 1024 * 1024


@dataclass(slots=True)
class Settings:
    """`limited_funds`: whether money may only leave while the balance has it."""

    quote_pdf_bytes: int = DEFAULT_PDF_BYTES
    limited_funds: bool = False
