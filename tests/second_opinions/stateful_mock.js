"use strict";

const http = require("node:http");
const { createExpressApp } = require("stripe-stateful-mock");

const server = http.createServer(createExpressApp());
server.listen(0, "127.0.0.1", () => console.log(`listening on 127.0.0.1:${server.address().port}`));
