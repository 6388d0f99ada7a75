"""`spendgate keys`: makes, shows, changes and revokes vault keys."""

from __future__ import annotations

from typing import Annotated

import typer

from spendgate import cap_text, parameter_text
from spendgate.cli import output
from spendgate.cli import policy_options as options
from spendgate.cli.connection import Account, DataDir, PolicyAddress, connect_with
from spendgate.cli.key_lookup import KeyArgument, find_key, vault_keys
from spendgate.cli.output import AsJson
from spendgate.v1 import policy_pb2
from spendgate.v1 import vault_key_service_pb2 as pb

app = typer.Typer(help="Make, show, change and revoke the vault keys of agents.", no_args_is_help=True)


@app.command("create")
def create_key(
    *,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="What to call it: 1 to 64 of A-Z a-z 0-9 . _ -")
    ],
    allow: options.Allow = None,
    cap: options.Caps = None,
    currency: options.Currencies = None,
    parameter: options.Parameters = None,
    budget: options.Budgets = None,
    vendor_account: options.VendorAccounts = None,
    unpriced: options.Unpriced = None,
    shadow: options.Shadow = False,
    effects: options.EffectsOption = None,
    refunds: options.RefundsOption = None,
    repeated_refusals: options.RepeatedRefusals = None,
    expires: options.Expires = None,
    expires_in: options.ExpiresIn = None,
    policy_file: options.PolicyFile = None,
    as_json: AsJson = False,
    account: Account = None,
    policy_address: PolicyAddress = None,
    data_dir: DataDir = None,
) -> None:
    """Make a vault key and print it, for the only time.

    What no option allows is refused. Example:

    `spendgate keys create shop --allow 'POST /v1/charges' --allow 'GET /v1/*' --cap 'usd 500.00/day'`
    """
    policy = options.build_policy(
        allow=allow,
        caps=cap,
        currency=currency,
        parameter=parameter,
        budget=budget,
        vendor_account=vendor_account,
        unpriced=unpriced,
        shadow=shadow,
        effects=effects,
        refunds=refunds,
        repeated_refusals=repeated_refusals,
        expires=expires,
        expires_in=expires_in,
        policy_file=policy_file,
    )
    with connect_with(policy_address, data_dir, account) as server:
        made = server.call(
            server.vault_keys.CreateVaultKey,
            pb.CreateVaultKeyRequest(name=name, account=server.account, policy=policy),
        )
    if as_json:
        output.print_json(output.as_dict(made))
        return
    _print_key(made.vault_key)
    output.print_line("\nGive this vault key to the agent. It is stored nowhere and never shown again:\n")
    output.print_line(made.secret_vault_key)


@app.command("list")
def list_keys(
    *,
    as_json: AsJson = False,
    account: Account = None,
    policy_address: PolicyAddress = None,
    data_dir: DataDir = None,
) -> None:
    """List the vault keys of the account, oldest first, revoked ones too."""
    with connect_with(policy_address, data_dir, account) as server:
        found = list(vault_keys(server))
    if as_json:
        output.print_json({"vaultKeys": [output.as_dict(key) for key in found]})
        return
    output.print_table(
        ("name", "id", "state", "caps", "budgets", "created"),
        (
            (
                key.name,
                key.vault_key_id,
                _state(key),
                "\n".join(cap_text.text(cap) for cap in key.policy.caps),
                ", ".join(key.policy.budgets),
                output.time_text(key.create_time),
            )
            for key in found
        ),
    )


@app.command("show")
def show_key(
    *,
    key: KeyArgument,
    as_json: AsJson = False,
    account: Account = None,
    policy_address: PolicyAddress = None,
    data_dir: DataDir = None,
) -> None:
    """Show one vault key and its policy; never its secret."""
    with connect_with(policy_address, data_dir, account) as server:
        _show(find_key(server, key), as_json=as_json)


@app.command("update")
def update_key(
    *,
    key: KeyArgument,
    allow: options.Allow = None,
    cap: options.Caps = None,
    currency: options.Currencies = None,
    parameter: options.Parameters = None,
    budget: options.Budgets = None,
    vendor_account: options.VendorAccounts = None,
    unpriced: options.Unpriced = None,
    shadow: options.Shadow = False,
    effects: options.EffectsOption = None,
    refunds: options.RefundsOption = None,
    repeated_refusals: options.RepeatedRefusals = None,
    expires: options.Expires = None,
    expires_in: options.ExpiresIn = None,
    policy_file: options.PolicyFile = None,
    if_version: Annotated[
        int,
        typer.Option(
            min=0, metavar="VERSION", help="Change nothing unless the policy has this version; 0: any."
        ),
    ] = 0,
    as_json: AsJson = False,
    account: Account = None,
    policy_address: PolicyAddress = None,
    data_dir: DataDir = None,
) -> None:
    """Replace the whole policy of a vault key; the next call obeys the new one.

    What is not given again is no longer allowed. What a cap of the same currency, window and endpoints has
    counted stays counted.
    """
    policy = options.build_policy(
        allow=allow,
        caps=cap,
        currency=currency,
        parameter=parameter,
        budget=budget,
        vendor_account=vendor_account,
        unpriced=unpriced,
        shadow=shadow,
        effects=effects,
        refunds=refunds,
        repeated_refusals=repeated_refusals,
        expires=expires,
        expires_in=expires_in,
        policy_file=policy_file,
    )
    with connect_with(policy_address, data_dir, account) as server:
        request = pb.UpdateVaultKeyPolicyRequest(
            vault_key_id=find_key(server, key).vault_key_id, policy=policy, expected_policy_version=if_version
        )
        changed = server.call(server.vault_keys.UpdateVaultKeyPolicy, request).vault_key
    _show(changed, as_json=as_json)


@app.command("revoke")
def revoke_key(
    *,
    key: KeyArgument,
    as_json: AsJson = False,
    account: Account = None,
    policy_address: PolicyAddress = None,
    data_dir: DataDir = None,
) -> None:
    """End a vault key for good: its very next call is refused.

    A whole vault key, as found in a leak, is taken for its id; the secret is not sent.
    """
    with connect_with(policy_address, data_dir, account) as server:
        request = pb.RevokeVaultKeyRequest(vault_key_id=find_key(server, key).vault_key_id)
        ended = server.call(server.vault_keys.RevokeVaultKey, request).vault_key
    if as_json:
        output.print_json(output.as_dict(ended))
        return
    when = output.time_text(ended.revoke_time)
    output.print_line(f"The vault key {ended.name} ({ended.vault_key_id}) is revoked since {when}.")


def _show(key: pb.VaultKey, *, as_json: bool) -> None:
    if as_json:
        output.print_json(output.as_dict(key))
    else:
        _print_key(key)


def _print_key(key: pb.VaultKey) -> None:
    policy = key.policy
    output.print_fields(
        (
            ("name", key.name),
            ("id", key.vault_key_id),
            ("account", key.account),
            ("state", _state(key)),
            ("created", output.time_text(key.create_time)),
            ("revoked", output.time_text(key.revoke_time) if key.HasField("revoke_time") else ""),
            ("expires", output.time_text(policy.expire_time) if policy.HasField("expire_time") else "never"),
            ("policy version", str(key.policy_version)),
            ("allow", "\n".join(policy.allow)),
            ("caps", "\n".join(cap_text.text(cap) for cap in policy.caps) or _no_caps(policy)),
            ("budgets", ", ".join(policy.budgets)),
            ("currencies", ", ".join(policy.currencies)),
            ("unpriced", "\n".join(policy.unpriced)),
            ("vendor accounts", ", ".join(policy.vendor_accounts)),
            ("parameters", "\n".join(parameter_text.text(rule) for rule in policy.parameter_rules)),
            ("mode", output.enum_text(policy_pb2.PolicyMode, policy.mode, "POLICY_MODE_")),
            ("effects", output.enum_text(policy_pb2.EffectNaming, policy.effects, "EFFECT_NAMING_")),
            ("refunds", output.enum_text(policy_pb2.RefundRule, policy.refunds, "REFUND_RULE_")),
            ("repeated refusals", _repeated_refusals(policy)),
        )
    )


def _state(key: pb.VaultKey) -> str:
    return output.enum_text(pb.VaultKeyState, key.state, "VAULT_KEY_STATE_")


def _repeated_refusals(policy: policy_pb2.Policy) -> str:
    most = policy.repeated_refusals_max
    return f"{most} of one call freeze a run" if most else "freeze no run"


def _no_caps(policy: policy_pb2.Policy) -> str:
    if policy.budgets:
        return f"none of its own; it draws from {', '.join(policy.budgets)}"
    return "none: no money may move"
