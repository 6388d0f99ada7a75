"use strict";

// Makes calls with Stripe's SDK for Node. Each line of standard input is a
// command as JSON; each is answered with one line of JSON on standard output.

const readline = require("node:readline");
const Stripe = require("stripe");

// The SDK has no setting for a path, so it is sent to a port of its own.
function client({ key, origin }) {
  const { hostname, port, protocol } = new URL(origin);
  return new Stripe(key, { host: hostname, port, protocol: protocol.slice(0, -1) });
}

function bound(stripe, method) {
  const names = method.split(".");
  const name = names.pop();
  const resource = names.reduce((within, noun) => within[noun], stripe);
  return resource[name].bind(resource);
}

const commands = {
  call: (stripe, { method, arguments: given }) => bound(stripe, method)(...given),

  async ids(stripe, { method, params }) {
    const ids = [];
    for await (const one of bound(stripe, method)(params)) ids.push(one.id);
    return ids;
  },

  upload: (stripe, { name, content }) =>
    stripe.files.create({
      purpose: "dispute_evidence",
      file: { name, data: Buffer.from(content, "base64"), type: "application/octet-stream" },
    }),

  async pdf(stripe, { quote }) {
    const pieces = [];
    for await (const piece of await stripe.quotes.pdf(quote)) pieces.push(piece);
    return Buffer.concat(pieces).toString("base64");
  },
};

async function answer(command) {
  try {
    return { result: await commands[command.what](client(command), command) };
  } catch (error) {
    return {
      kind: String(error.type ?? error.name).replace(/^Stripe/, ""),
      status: error.statusCode ?? null,
      error: { ...error.raw, message: error.message },
    };
  }
}

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    process.stdout.write(`${JSON.stringify(await answer(JSON.parse(line)))}\n`);
  }
}

// The SDK keeps its connections open, which would keep the process alive.
main().then(() => process.exit());
