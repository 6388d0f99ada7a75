// Stripe's SDK for Node through Spendgate: one run, one charge. Run it against `make run`:
//
//   npm install stripe && SPENDGATE_VAULT_KEY=$(cat .spendgate/demo.key) node node_charge.js
const Stripe = require("stripe");

const sidecar = new URL(process.env.SPENDGATE_SIDECAR_ROOT_URL || "http://127.0.0.1:8788");

// The SDK takes a host and a port but no path, so it uses the port where Stripe is at the root.
function stripeForRun(vaultKey, runId) {
  const stripe = new Stripe(vaultKey, { host: sidecar.hostname, port: sidecar.port, protocol: "http" });
  const options = (step) => ({
    headers: { "Spendgate-Run-Id": runId, ...(step ? { "Spendgate-Step": step } : {}) },
  });
  return { stripe, options };
}

async function main() {
  const { stripe, options } = stripeForRun(process.env.SPENDGATE_VAULT_KEY, "order-65");
  const order = { amount: 1900, currency: "usd", source: "tok_visa" };
  const first = await stripe.charges.create(order, options());
  const again = await stripe.charges.create(order, options());
  console.log(first.id, again.id === first.id ? "is the same charge" : "IS ANOTHER CHARGE");
  try {
    await stripe.charges.create({ ...order, amount: 2500 }, options());
  } catch (error) {
    // What Spendgate says is in the raw body; it is absent in Stripe's own errors.
    const refused = error.raw.spendgate;
    console.log(error.code, refused.reason, refused.retryable ? "try again later" : "do not try again");
  }
  const balance = await stripe.charges.create({ ...order, amount: 2500 }, options("balance"));
  console.log(balance.id, "is a second, wanted charge");
}

main().catch((error) => {
  console.error(error.message);
  process.exitCode = 1;
});
