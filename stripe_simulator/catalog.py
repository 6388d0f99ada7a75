"""Products and prices: what is sold and for how much. Nothing here moves money."""

from __future__ import annotations

from collections.abc import Callable

from stripe_simulator.call import Call
from stripe_simulator.catalog_objects import Price, Product
from stripe_simulator.errors import JsonObject, StripeError, missing_parameter
from stripe_simulator.events import record_event
from stripe_simulator.lists import page
from stripe_simulator.parameters import Parameters
from stripe_simulator.pricing import (
    PRODUCT_DATA,
    TAX_BEHAVIORS,
    read_currency_options,
    read_custom_amount,
    read_recurring,
    read_tiers,
    read_unit_amount,
    refused,
)


def create_product(call: Call) -> JsonObject:
    parameters = call.parameters
    name = parameters.required_text("name")
    own_id = parameters.text("id")
    product = _described(Product("", call.now, call.now, name, {}), parameters)
    add_price = _default_price(call)
    call.begin()
    if own_id is not None and call.ledger.products.get(own_id) is not None:
        raise StripeError(400, "Product already exists.", code="resource_already_exists", param="id")
    product.id = own_id or call.new_id("prod")
    call.ledger.products.add(product)
    if add_price is not None:
        product.default_price = add_price(call, product).id
    answer = product.json()
    record_event(call, "product.created", answer)
    return answer


def _described(product: Product, parameters: Parameters) -> Product:
    product.active = parameters.boolean("active", product.active)
    product.metadata = parameters.metadata(product.metadata)
    for name in ("description", "url", "default_price"):
        if name in parameters:
            setattr(product, name, parameters.text(name))
    return product


def retrieve_product(call: Call) -> JsonObject:
    return call.ledger.products.require(call.path_ids[0], param="id").json()


def update_product(call: Call) -> JsonObject:
    parameters = call.parameters
    name = parameters.text("name")
    _described(Product("", call.now, call.now, "", {}), parameters)
    call.begin()
    product = call.ledger.products.require(call.path_ids[0], param="id")
    before = product.json()
    _described(product, parameters)
    product.name = name or product.name
    product.updated = call.now
    after = product.json()
    record_event(call, "product.updated", after, before)
    return after


def list_products(call: Call) -> JsonObject:
    ids = call.parameters.texts("ids")
    active = call.parameters.boolean("active", default=True) if "active" in call.parameters else None

    def keep(product: Product) -> bool:
        return (not ids or product.id in ids) and active in (None, product.active)

    return page(call, call.ledger.products, keep)


def _default_price(call: Call) -> Callable[[Call, Product], Price] | None:
    """The price that a new product brings along."""
    data = call.parameters.hash(
        "default_price_data",
        "currency currency_options custom_unit_amount metadata recurring tax_behavior unit_amount "
        "unit_amount_decimal",
    )
    if data is None:
        return None
    price = _read_price(data, call.now, "")

    def make(call: Call, product: Product) -> Price:
        price.id, price.product = call.new_id("price"), product.id
        return call.ledger.prices.add(price)

    return make


def _read_price(parameters: Parameters, now: int, product: str) -> Price:
    """The price as described; it has no id and is not kept yet."""
    tiered = parameters.choice("billing_scheme", ("per_unit", "tiered")) == "tiered"
    custom, unit_amount = read_custom_amount(parameters), read_unit_amount(parameters)
    if unit_amount is None and not tiered and custom is None:
        raise missing_parameter(parameters.full_name("unit_amount"))
    if unit_amount is not None and (tiered or custom is not None):
        raise refused(
            "A price has either unit_amount, tiers or custom_unit_amount.", parameters, "unit_amount"
        )
    recurring = read_recurring(parameters)
    if custom is not None and recurring is not None:
        raise refused("Prices with a custom amount cannot recur.", parameters, "custom_unit_amount")
    package = parameters.hash("transform_quantity", "divide_by round")
    return Price(
        id="",
        created=now,
        currency=parameters.currency(),
        product=product,
        metadata=parameters.metadata({}),
        unit_amount=unit_amount,
        recurring=recurring,
        active=parameters.boolean("active", default=True),
        nickname=parameters.text("nickname"),
        lookup_key=parameters.text("lookup_key"),
        tiers=read_tiers(parameters) if tiered else [],
        tiers_mode=parameters.choice("tiers_mode", ("graduated", "volume"))
        or ("graduated" if tiered else None),
        custom=custom,
        divide_by=package.required_positive_integer("divide_by") if package is not None else 1,
        rounds_up=package is None or package.choice("round", ("up", "down")) != "down",
        currency_options=read_currency_options(parameters),
        tax_behavior=parameters.choice("tax_behavior", TAX_BEHAVIORS) or "unspecified",
    )


def create_price(call: Call) -> JsonObject:
    parameters = call.parameters
    product_id = parameters.text("product")
    product_data = parameters.hash("product_data", PRODUCT_DATA)
    if product_id is None and product_data is None:
        raise missing_parameter("product")
    new_name = product_data.required_text("name") if product_data is not None else None
    price = _read_price(parameters, call.now, product_id or "")
    call.begin()
    if new_name is not None:
        product = call.ledger.products.add(Product(call.new_id("prod"), call.now, call.now, new_name, {}))
        price.product = product.id
    else:
        call.ledger.products.require(price.product, param="product", status=400)
    price.id = call.new_id("price")
    call.ledger.prices.add(price)
    answer = price.json()
    record_event(call, "price.created", answer)
    return answer


def retrieve_price(call: Call) -> JsonObject:
    return call.ledger.prices.require(call.path_ids[0], param="price").json()


def update_price(call: Call) -> JsonObject:
    """A price's amount never changes; amounts in further currencies may be added."""
    parameters = call.parameters
    active = parameters.boolean("active", default=True) if "active" in parameters else None
    nickname, lookup_key = parameters.text("nickname"), parameters.text("lookup_key")
    options = read_currency_options(parameters)
    parameters.metadata({})
    call.begin()
    price = call.ledger.prices.require(call.path_ids[0], param="price")
    before = price.json()
    price.active = price.active if active is None else active
    price.nickname = nickname if "nickname" in parameters else price.nickname
    price.metadata = parameters.metadata(price.metadata)
    price.lookup_key = lookup_key if "lookup_key" in parameters else price.lookup_key
    price.currency_options |= options
    after = price.json()
    record_event(call, "price.updated", after, before)
    return after


def list_prices(call: Call) -> JsonObject:
    parameters = call.parameters
    product, currency = parameters.text("product"), parameters.text("currency")
    kind = parameters.choice("type", ("one_time", "recurring"))
    lookup_keys = parameters.texts("lookup_keys")
    active = parameters.boolean("active", default=True) if "active" in parameters else None

    def keep(price: Price) -> bool:
        return (
            (product is None or price.product == product)
            and (currency is None or price.currency == currency.lower())
            and (kind is None or (kind == "recurring") == (price.recurring is not None))
            and (not lookup_keys or price.lookup_key in lookup_keys)
            and active in (None, price.active)
        )

    return page(call, call.ledger.prices, keep)
