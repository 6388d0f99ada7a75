/**
 * Derives a key for one run from a vault key, in Node, with nothing but its crypto module.
 *
 * docs/keys.md specifies it. Nobody is asked, and nothing is stored: whoever holds a vault key can do this.
 */
"use strict";

const crypto = require("node:crypto");

const DOMAIN = "spendgate derived key 1";
// What stands before the 32 bytes of a seed or a public key in DER, as RFC 8410 has it.
const PRIVATE = Buffer.from("302e020100300506032b657004220420", "hex");
const PUBLIC_BYTES = 32;

const hmac = (key, ...parts) => crypto.createHmac("sha256", key).update(Buffer.concat(parts.map(bytes))).digest();
const bytes = (part) => (Buffer.isBuffer(part) ? part : Buffer.from(part, "utf8"));
const signer = (seed) =>
  crypto.createPrivateKey({ key: Buffer.concat([PRIVATE, seed]), format: "der", type: "pkcs8" });
const publicKey = (seed) =>
  crypto.createPublicKey(signer(seed)).export({ format: "der", type: "spki" }).subarray(-PUBLIC_BYTES);

/** Writes caveats in the one way that is accepted: names sorted, no spaces, ASCII. */
function canonical(caveats) {
  const sorted = (value) =>
    Array.isArray(value)
      ? value.map(sorted)
      : value && typeof value === "object"
        ? Object.fromEntries(Object.keys(value).sort().map((name) => [name, sorted(value[name])]))
        : value;
  return JSON.stringify(sorted(caveats));
}

/** Returns the caveats of what a derived key may do, or throws when they say nothing. */
function caveats({ runId, expiresAt, allow, caps, label } = {}) {
  const said = {};
  if (runId) said.run = runId;
  if (expiresAt !== undefined) said.expires = expiresAt;
  if (allow?.length) said.allow = [...new Set(allow)].sort();
  if (label) said.label = label;
  if (caps?.length) {
    const place = ({ currency = "", window }) => `${currency}\0${window}`;
    said.caps = [...caps].sort((a, b) => (place(a) < place(b) ? -1 : 1));
  }
  if (!Object.keys(said).length) throw new Error("say what the derived key may do less, or give it a label");
  return canonical(said);
}

/** Returns a key that may do what `parent` may, and of that only what is said. */
function deriveKey(parent, said) {
  const [, keyId, rest] = /^vk_([a-z2-7]{12})_(.+)$/.exec(parent) ?? [];
  if (!keyId) throw new Error("the parent is no vault key and none that was derived from one");
  const parts = rest.split(".");
  const derived = parts[0] === "d1";
  const links = derived ? parts.slice(1, -1) : [];
  const seed = derived ? Buffer.from(parts.at(-1), "base64url") : hmac(rest, DOMAIN, " root");
  const stated = caveats(said);
  const next = hmac(seed, DOMAIN, " next", stated);
  const named = publicKey(next);
  const signed = Buffer.concat([DOMAIN, " link", keyId, named, stated].map(bytes));
  const link = Buffer.concat([bytes(stated), named, crypto.sign(null, signed, signer(seed))]);
  return `vk_${keyId}_d1.${[...links, link.toString("base64url"), next.toString("base64url")].join(".")}`;
}

/** Returns the public id of a derived key, as the audit trail has it. */
function derivedKeyId(key) {
  const link = Buffer.from(key.split(".").at(-2), "base64url");
  const named = link.subarray(-64 - PUBLIC_BYTES, -64);
  const digest = crypto.createHash("sha256").update(DOMAIN).update(" id").update(named).digest().subarray(0, 10);
  const bits = [...digest].map((byte) => byte.toString(2).padStart(8, "0")).join("");
  return bits.replace(/.{5}/g, (five) => "abcdefghijklmnopqrstuvwxyz234567"[parseInt(five, 2)]);
}

module.exports = { caveats, deriveKey, derivedKeyId };

if (require.main === module) {
  const parent = require("node:fs").readFileSync(0, "utf8").trim();
  console.log(deriveKey(parent, { runId: process.argv[2] || "order-79" }));
}
