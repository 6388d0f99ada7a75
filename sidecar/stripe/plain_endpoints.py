"""The endpoints of Stripe that move no money, one path a line with its methods.

They are the methods of Stripe's SDK 16.1 (API 2026-10-28.endive) and of its
public specification that the money table in `sidecar.stripe.endpoints` does not
have. Amounts in their parameters are limits, catalog entries or records of what
happened elsewhere; what is charged by them is priced where it is charged.
"""

PLAIN = """
/v1/account GET
/v1/account_links POST
/v1/account_sessions POST
/v1/accounts GET POST
/v1/accounts/{account} GET DELETE
/v1/accounts/{account}/capabilities GET
/v1/accounts/{account}/capabilities/{capability} GET POST
/v1/accounts/{account}/external_accounts GET
/v1/accounts/{account}/external_accounts/{external_account} GET DELETE
/v1/accounts/{account}/login_links POST
/v1/accounts/{account}/persons GET POST
/v1/accounts/{account}/persons/{person} GET POST DELETE
/v1/accounts/{account}/reject POST
/v1/accounts/{account}/unreject POST
/v1/apple_pay/domains GET POST
/v1/apple_pay/domains/{domain} GET DELETE
/v1/application_fees GET
/v1/application_fees/{application_fee} GET
/v1/application_fees/{fee}/refunds GET
/v1/application_fees/{fee}/refunds/{refund} GET POST
/v1/apps/installs GET POST
/v1/apps/installs/{install} GET POST
/v1/apps/installs/{install}/uninstall POST
/v1/apps/secrets GET POST
/v1/apps/secrets/delete POST
/v1/apps/secrets/find GET
/v1/balance GET
/v1/balance_settings GET
/v1/balance_transactions GET
/v1/balance_transactions/{balance_transaction} GET
/v1/billing/alerts GET POST
/v1/billing/alerts/{alert} GET
/v1/billing/alerts/{alert}/activate POST
/v1/billing/alerts/{alert}/archive POST
/v1/billing/alerts/{alert}/deactivate POST
/v1/billing/credit_balance_summary GET
/v1/billing/credit_balance_transactions GET
/v1/billing/credit_balance_transactions/{credit_balance_transaction} GET
/v1/billing/credit_grants GET
/v1/billing/credit_grants/{credit_grant} GET POST
/v1/billing/credit_grants/{credit_grant}/expire POST
/v1/billing/credit_grants/{credit_grant}/void POST
/v1/billing/feedback_options GET POST
/v1/billing/feedback_options/{feedback_option} GET POST
/v1/billing/feedback_options/{feedback_option}/deactivate POST
/v1/billing/meters GET POST
/v1/billing/meters/{meter} GET POST
/v1/billing/meters/{meter}/deactivate POST
/v1/billing/meters/{meter}/event_summaries GET
/v1/billing/meters/{meter}/reactivate POST
/v1/billing_portal/configurations GET POST
/v1/billing_portal/configurations/{configuration} GET POST
/v1/billing_portal/sessions POST
/v1/charges GET
/v1/charges/search GET
/v1/charges/{charge} GET POST
/v1/charges/{charge}/dispute POST
/v1/charges/{charge}/refunds/{refund} POST
/v1/checkout/sessions GET
/v1/checkout/sessions/{session} GET
/v1/checkout/sessions/{session}/line_items GET
/v1/climate/orders GET
/v1/climate/orders/{order} GET POST
/v1/climate/products GET
/v1/climate/products/{product} GET
/v1/climate/suppliers GET
/v1/climate/suppliers/{supplier} GET
/v1/confirmation_tokens/{confirmation_token} GET
/v1/country_specs GET
/v1/country_specs/{country} GET
/v1/coupons GET POST
/v1/coupons/{coupon} GET POST DELETE
/v1/credit_notes GET
/v1/credit_notes/preview GET
/v1/credit_notes/preview/lines GET
/v1/credit_notes/{credit_note} GET POST
/v1/credit_notes/{credit_note}/lines GET
/v1/customer_sessions POST
/v1/customers GET
/v1/customers/search GET
/v1/customers/{customer} GET DELETE
/v1/customers/{customer}/balance_transactions GET
/v1/customers/{customer}/balance_transactions/{transaction} GET POST
/v1/customers/{customer}/cash_balance GET
/v1/customers/{customer}/cash_balance_transactions GET
/v1/customers/{customer}/cash_balance_transactions/{transaction} GET
/v1/customers/{customer}/discount DELETE
/v1/customers/{customer}/funding_instructions POST
/v1/customers/{customer}/payment_methods GET
/v1/customers/{customer}/payment_methods/{payment_method} GET
/v1/customers/{customer}/sources GET POST
/v1/customers/{customer}/sources/{source} GET POST DELETE
/v1/customers/{customer}/sources/{source}/verify POST
/v1/customers/{customer}/tax_ids GET POST
/v1/customers/{customer}/tax_ids/{tax_id} GET DELETE
/v1/disputes GET
/v1/disputes/{dispute} GET POST
/v1/entitlements/active_entitlements GET
/v1/entitlements/active_entitlements/{active_entitlement} GET
/v1/entitlements/features GET POST
/v1/entitlements/features/{feature} GET POST
/v1/ephemeral_keys POST
/v1/ephemeral_keys/{key} DELETE
/v1/events GET
/v1/events/{event} GET
/v1/exchange_rates GET
/v1/exchange_rates/{rate_id} GET
/v1/file_links GET POST
/v1/file_links/{link} GET POST
/v1/files GET POST
/v1/files/{file} GET
/v1/financial_connections/accounts GET
/v1/financial_connections/accounts/{account} GET
/v1/financial_connections/accounts/{account}/disconnect POST
/v1/financial_connections/accounts/{account}/owners GET
/v1/financial_connections/accounts/{account}/refresh POST
/v1/financial_connections/accounts/{account}/subscribe POST
/v1/financial_connections/accounts/{account}/unsubscribe POST
/v1/financial_connections/sessions POST
/v1/financial_connections/sessions/{session} GET
/v1/financial_connections/transactions GET
/v1/financial_connections/transactions/{transaction} GET
/v1/forwarding/requests GET
/v1/forwarding/requests/{request} GET
/v1/identity/verification_reports GET
/v1/identity/verification_reports/{report} GET
/v1/identity/verification_sessions GET POST
/v1/identity/verification_sessions/{session} GET POST
/v1/identity/verification_sessions/{session}/cancel POST
/v1/identity/verification_sessions/{session}/redact POST
/v1/invoice_payments GET
/v1/invoice_payments/{invoice_payment} GET
/v1/invoice_rendering_templates GET
/v1/invoice_rendering_templates/{template} GET
/v1/invoice_rendering_templates/{template}/archive POST
/v1/invoice_rendering_templates/{template}/unarchive POST
/v1/invoiceitems GET
/v1/invoiceitems/{invoiceitem} GET
/v1/invoices GET
/v1/invoices/create_preview POST
/v1/invoices/search GET
/v1/invoices/{invoice} GET
/v1/invoices/{invoice}/detach_payment POST
/v1/invoices/{invoice}/lines GET
/v1/invoices/{invoice}/mark_uncollectible POST
/v1/issuing/authorizations GET
/v1/issuing/authorizations/{authorization} GET POST
/v1/issuing/cardholders GET
/v1/issuing/cardholders/{cardholder} GET
/v1/issuing/cards GET
/v1/issuing/cards/{card} GET
/v1/issuing/disputes GET
/v1/issuing/disputes/{dispute} GET POST
/v1/issuing/personalization_designs GET POST
/v1/issuing/personalization_designs/{personalization_design} GET POST
/v1/issuing/physical_bundles GET
/v1/issuing/physical_bundles/{physical_bundle} GET
/v1/issuing/tokens GET
/v1/issuing/tokens/{token} GET POST
/v1/issuing/transactions GET
/v1/issuing/transactions/{transaction} GET POST
/v1/mandates/{mandate} GET
/v1/payment_attempt_records GET
/v1/payment_attempt_records/{payment_attempt_record} GET
/v1/payment_intents GET
/v1/payment_intents/search GET
/v1/payment_intents/{intent} GET
/v1/payment_intents/{intent}/amount_details_line_items GET
/v1/payment_links GET
/v1/payment_links/{payment_link} GET
/v1/payment_links/{payment_link}/line_items GET
/v1/payment_method_configurations GET POST
/v1/payment_method_configurations/{configuration} GET POST
/v1/payment_method_domains GET POST
/v1/payment_method_domains/{payment_method_domain} GET POST
/v1/payment_method_domains/{payment_method_domain}/validate POST
/v1/payment_methods GET POST
/v1/payment_methods/{payment_method} GET POST
/v1/payment_methods/{payment_method}/attach POST
/v1/payment_methods/{payment_method}/detach POST
/v1/payment_records GET
/v1/payment_records/report_payment POST
/v1/payment_records/{payment_record} GET
/v1/payment_records/{payment_record}/report_payment_attempt POST
/v1/payment_records/{payment_record}/report_payment_attempt_canceled POST
/v1/payment_records/{payment_record}/report_payment_attempt_failed POST
/v1/payment_records/{payment_record}/report_payment_attempt_guaranteed POST
/v1/payment_records/{payment_record}/report_payment_attempt_informational POST
/v1/payment_records/{payment_record}/report_refund POST
/v1/payouts GET
/v1/payouts/{payout} GET POST
/v1/plans GET POST
/v1/plans/{plan} GET POST DELETE
/v1/prices GET POST
/v1/prices/search GET
/v1/prices/{price} GET
/v1/product_catalog/trial_offers GET POST
/v1/product_catalog/trial_offers/{trial_offer} GET POST
/v1/products GET POST
/v1/products/search GET
/v1/products/{product} GET POST DELETE
/v1/products/{product}/features GET POST
/v1/products/{product}/features/{feature} GET DELETE
/v1/promotion_codes GET POST
/v1/promotion_codes/{promotion_code} GET POST
/v1/quotes GET POST
/v1/quotes/{quote} GET POST
/v1/quotes/{quote}/cancel POST
/v1/quotes/{quote}/computed_upfront_line_items GET
/v1/quotes/{quote}/finalize POST
/v1/quotes/{quote}/line_items GET
/v1/quotes/{quote}/pdf GET
/v1/radar/early_fraud_warnings GET
/v1/radar/early_fraud_warnings/{early_fraud_warning} GET
/v1/radar/payment_evaluations POST
/v1/radar/value_list_items GET POST
/v1/radar/value_list_items/{item} GET DELETE
/v1/radar/value_lists GET POST
/v1/radar/value_lists/{value_list} GET POST DELETE
/v1/refunds GET
/v1/refunds/{refund} GET POST
/v1/reporting/report_runs GET POST
/v1/reporting/report_runs/{report_run} GET
/v1/reporting/report_types GET
/v1/reporting/report_types/{report_type} GET
/v1/reviews GET
/v1/reviews/{review} GET
/v1/reviews/{review}/approve POST
/v1/setup_attempts GET
/v1/setup_intents GET POST
/v1/setup_intents/{intent} GET POST
/v1/setup_intents/{intent}/cancel POST
/v1/setup_intents/{intent}/confirm POST
/v1/setup_intents/{intent}/verify_microdeposits POST
/v1/shipping_rates GET POST
/v1/shipping_rates/{shipping_rate_token} GET
/v1/sigma/scheduled_query_runs GET
/v1/sigma/scheduled_query_runs/{scheduled_query_run} GET
/v1/sources/{source} GET POST
/v1/sources/{source}/source_transactions GET
/v1/sources/{source}/verify POST
/v1/subscription_items GET
/v1/subscription_items/{item} GET
/v1/subscription_schedules GET
/v1/subscription_schedules/{schedule} GET
/v1/subscription_schedules/{schedule}/release POST
/v1/subscriptions GET
/v1/subscriptions/search GET
/v1/subscriptions/{subscription} GET
/v1/subscriptions/{subscription}/discount DELETE
/v1/subscriptions/{subscription}/migrate POST
/v1/tax/associations/find GET
/v1/tax/calculations POST
/v1/tax/calculations/{calculation} GET
/v1/tax/calculations/{calculation}/line_items GET
/v1/tax/locations GET POST
/v1/tax/locations/{location} GET
/v1/tax/registrations GET POST
/v1/tax/registrations/{registration} GET POST
/v1/tax/settings GET POST
/v1/tax/transactions/create_from_calculation POST
/v1/tax/transactions/create_reversal POST
/v1/tax/transactions/{transaction} GET
/v1/tax/transactions/{transaction}/line_items GET
/v1/tax_codes GET
/v1/tax_codes/{tax_code} GET
/v1/tax_ids GET POST
/v1/tax_ids/{tax_id} GET DELETE
/v1/tax_rates GET POST
/v1/tax_rates/{tax_rate} GET POST
/v1/terminal/configurations GET POST
/v1/terminal/configurations/{configuration} GET POST DELETE
/v1/terminal/connection_tokens POST
/v1/terminal/locations GET POST
/v1/terminal/locations/{location} GET POST DELETE
/v1/terminal/onboarding_links POST
/v1/terminal/readers GET POST
/v1/terminal/readers/{reader} GET POST DELETE
/v1/terminal/readers/{reader}/cancel_action POST
/v1/terminal/readers/{reader}/collect_inputs POST
/v1/terminal/readers/{reader}/collect_payment_method POST
/v1/terminal/readers/{reader}/process_setup_intent POST
/v1/terminal/readers/{reader}/set_reader_display POST
/v1/test/payment_intents/{intent}/trigger_action POST
/v1/test_helpers/confirmation_tokens POST
/v1/test_helpers/issuing/authorizations/{authorization}/expire POST
/v1/test_helpers/issuing/authorizations/{authorization}/fraud_challenges/respond POST
/v1/test_helpers/issuing/cards/{card}/shipping/deliver POST
/v1/test_helpers/issuing/cards/{card}/shipping/fail POST
/v1/test_helpers/issuing/cards/{card}/shipping/return POST
/v1/test_helpers/issuing/cards/{card}/shipping/ship POST
/v1/test_helpers/issuing/cards/{card}/shipping/submit POST
/v1/test_helpers/issuing/personalization_designs/{personalization_design}/activate POST
/v1/test_helpers/issuing/personalization_designs/{personalization_design}/deactivate POST
/v1/test_helpers/issuing/personalization_designs/{personalization_design}/reject POST
/v1/test_helpers/refunds/{refund}/expire POST
/v1/test_helpers/terminal/readers/{reader}/present_payment_method POST
/v1/test_helpers/terminal/readers/{reader}/succeed_input_collection POST
/v1/test_helpers/terminal/readers/{reader}/timeout_input_collection POST
/v1/test_helpers/test_clocks GET POST
/v1/test_helpers/test_clocks/{test_clock} GET DELETE
/v1/test_helpers/treasury/inbound_transfers/{inbound_transfer}/fail POST
/v1/test_helpers/treasury/inbound_transfers/{inbound_transfer}/return POST
/v1/test_helpers/treasury/inbound_transfers/{inbound_transfer}/succeed POST
/v1/test_helpers/treasury/outbound_payments/{outbound_payment} POST
/v1/test_helpers/treasury/outbound_payments/{outbound_payment}/fail POST
/v1/test_helpers/treasury/outbound_payments/{outbound_payment}/post POST
/v1/test_helpers/treasury/outbound_payments/{outbound_payment}/return POST
/v1/test_helpers/treasury/outbound_transfers/{outbound_transfer} POST
/v1/test_helpers/treasury/outbound_transfers/{outbound_transfer}/fail POST
/v1/test_helpers/treasury/outbound_transfers/{outbound_transfer}/post POST
/v1/test_helpers/treasury/outbound_transfers/{outbound_transfer}/return POST
/v1/three_d_secure/authentications GET POST
/v1/three_d_secure/authentications/{authentication} GET
/v1/three_d_secure/authentications/{authentication}/cancel POST
/v1/three_d_secure/authentications/{authentication}/submit POST
/v1/tokens POST
/v1/tokens/{token} GET
/v1/topups GET
/v1/topups/{topup} GET POST
/v1/transfers GET
/v1/transfers/{transfer} GET POST
/v1/transfers/{transfer}/reversals GET
/v1/transfers/{transfer}/reversals/{reversal} GET POST
/v1/treasury/credit_reversals GET
/v1/treasury/credit_reversals/{credit_reversal} GET
/v1/treasury/debit_reversals GET
/v1/treasury/debit_reversals/{debit_reversal} GET
/v1/treasury/financial_accounts GET POST
/v1/treasury/financial_accounts/{financial_account} GET POST
/v1/treasury/financial_accounts/{financial_account}/features GET POST
/v1/treasury/inbound_transfers GET
/v1/treasury/inbound_transfers/{inbound_transfer} GET
/v1/treasury/outbound_payments GET
/v1/treasury/outbound_payments/{outbound_payment} GET
/v1/treasury/outbound_transfers GET
/v1/treasury/outbound_transfers/{outbound_transfer} GET
/v1/treasury/received_credits GET
/v1/treasury/received_credits/{received_credit} GET
/v1/treasury/received_debits GET
/v1/treasury/received_debits/{received_debit} GET
/v1/treasury/transaction_entries GET
/v1/treasury/transaction_entries/{transaction_entry} GET
/v1/treasury/transactions GET
/v1/treasury/transactions/{transaction} GET
/v1/webhook_endpoints GET POST
/v1/webhook_endpoints/{webhook_endpoint} GET POST DELETE
/v2/billing/meter_event_session POST
/v2/billing/meter_event_stream POST
/v2/commerce/product_catalog/imports GET POST
/v2/commerce/product_catalog/imports/{import} GET
/v2/core/account_links POST
/v2/core/account_tokens POST
/v2/core/account_tokens/{account_token} GET
/v2/core/accounts GET POST
/v2/core/accounts/{account_id}/person_tokens POST
/v2/core/accounts/{account_id}/person_tokens/{person_token} GET
/v2/core/accounts/{account_id}/persons GET POST
/v2/core/accounts/{account_id}/persons/{person} GET POST DELETE
/v2/core/accounts/{account} GET POST
/v2/core/accounts/{account}/close POST
/v2/core/event_destinations GET POST
/v2/core/event_destinations/{event_destination} GET POST DELETE
/v2/core/event_destinations/{event_destination}/disable POST
/v2/core/event_destinations/{event_destination}/enable POST
/v2/core/event_destinations/{event_destination}/ping POST
/v2/core/events GET
/v2/core/events/{event} GET
/v2/core/vault/gb_bank_accounts GET POST
/v2/core/vault/gb_bank_accounts/{gb_bank_account} GET
/v2/core/vault/gb_bank_accounts/{gb_bank_account}/archive POST
/v2/core/vault/gb_bank_accounts/{gb_bank_account}/unarchive POST
/v2/core/vault/us_bank_accounts GET POST
/v2/core/vault/us_bank_accounts/{us_bank_account} GET POST
/v2/core/vault/us_bank_accounts/{us_bank_account}/archive POST
/v2/core/vault/us_bank_accounts/{us_bank_account}/confirm_microdeposits POST
/v2/core/vault/us_bank_accounts/{us_bank_account}/unarchive POST
/v2/money_management/adjustments GET
/v2/money_management/adjustments/{adjustment} GET
/v2/money_management/financial_accounts GET
/v2/money_management/financial_accounts/{financial_account} GET POST
/v2/money_management/financial_addresses GET POST
/v2/money_management/financial_addresses/{financial_addres} GET
/v2/money_management/inbound_transfers GET
/v2/money_management/inbound_transfers/{inbound_transfer} GET
/v2/money_management/outbound_payments GET
/v2/money_management/outbound_payments/{outbound_payment} GET
/v2/money_management/outbound_setup_intents GET POST
/v2/money_management/outbound_setup_intents/{outbound_setup_intent} GET POST
/v2/money_management/outbound_setup_intents/{outbound_setup_intent}/cancel POST
/v2/money_management/payout_intents GET
/v2/money_management/payout_intents/{payout_intent} GET
/v2/money_management/payout_intents/{payout_intent}/refresh_recipient_verification POST
/v2/money_management/payout_methods GET
/v2/money_management/payout_methods/{payout_method} GET
/v2/money_management/payout_methods/{payout_method}/archive POST
/v2/money_management/payout_methods/{payout_method}/unarchive POST
/v2/money_management/payout_methods_bank_account_spec GET
/v2/money_management/received_credits GET
/v2/money_management/received_credits/{received_credit} GET
/v2/money_management/recipient_verifications POST
/v2/money_management/recipient_verifications/{recipient_verification} GET
/v2/money_management/recipient_verifications/{recipient_verification}/acknowledge POST
/v2/money_management/transaction_entries GET
/v2/money_management/transaction_entries/{transaction_entry} GET
/v2/money_management/transactions GET
/v2/money_management/transactions/{transaction} GET POST
/v2/money_management/transactions/{transaction}/refresh_regulatory_receipt POST
/v2/provisioning/payment_profile/update_limit POST
/v2/test_helpers/money_management/recipient_verifications POST
"""
