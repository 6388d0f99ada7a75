"""What each target begins with."""

from __future__ import annotations

SEEDS: dict[str, list[bytes]] = {
    "form": [
        b"\0\0amount=1900&currency=USD&source=tok_visa&metadata[order]=67%2035",
        b"\0\5line_items[0][price_data][unit_amount]=1200&line_items[0][quantity]=2&expand[]=a&expand[]=b",
    ],
    "query": [b"\0\0limit=3&created[gte]=1&expand[]=data.customer", b"\0\1"],
    "json": [
        b'\0\0{"amount":{"value":1200,"currency":"usd"},"from":{"financial_account":"fa_1"},"to":{"a":[1,{}]}}',
        b'\0\1{"a":"\\u00e9\\ud83d\\ude00","b":true,"c":null,"d":-1}',
    ],
    "multipart": [
        b"boundary=b\n"
        b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nidentity_document\r\n'
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n'
        b"Content-Type: image/png\r\n\r\nx\r\n--b--\r\n"
    ],
    "request": [
        b"POST\n/v1/charges\n\ncontent-type:application/x-www-form-urlencoded\nidempotency-key:k\n"
        b"stripe-version:2026-10-28.endive\n\namount=5&currency=usd",
        b"GET\n/v1/charges/ch_1\nexpand[]=customer\nstripe-account:acct_1\n",
        b'POST\n/v2/money_management/outbound_payments\n\ncontent-type:application/json\n\n{"amount":{}}',
    ],
}
