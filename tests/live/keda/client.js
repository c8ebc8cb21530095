// Asks an external scaler as KEDA would. Reads one JSON object, writes a JSON line for everything that comes back.
//
//   node client.js '{"address": "127.0.0.1:6000", "ca": FILE, "cert": FILE, "key": FILE, "from": "proto",
//                    "calls": [{"method": "IsActive", "request": {...}}, {"method": "StreamIsActive", "messages": 2}]}'
//
// from: "proto" reads externalscaler.proto, "reflection" knows only what the server tells of itself.
// A call of "list" lists the services, "Health/Check" asks for health. Without ca the channel is plaintext.

"use strict";

const fs = require("fs");
const path = require("path");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const PROTO = path.join(__dirname, "..", "..", "..", "rlscale", "deploy", "keda", "externalscaler.proto");
const OPTIONS = { keepCase: true, longs: Number, defaults: true };
const DEADLINE_S = 20;

const asked = JSON.parse(process.argv[2]);
const deadline = () => ({ deadline: Date.now() + DEADLINE_S * 1000 });
const tell = (event) => fs.writeSync(1, JSON.stringify(event) + "\n");
const refused = (method, error) => tell({ method, code: grpc.status[error.code], details: error.details });

function credentials() {
  if (!asked.ca) return grpc.credentials.createInsecure();
  const read = (name) => (asked[name] ? fs.readFileSync(asked[name]) : null);
  return grpc.credentials.createSsl(read("ca"), read("key"), read("cert"));
}

function client(definition, service) {
  const known = grpc.loadPackageDefinition(definition);
  const Client = service.split(".").reduce((inside, name) => inside[name], known);
  // The certificate is that of a name, and the address is a number.
  return new Client(asked.address, credentials(), { "grpc.ssl_target_name_override": "localhost" });
}

function reflect(request) {
  const definition = loader.loadSync(path.join(__dirname, "reflection.proto"), OPTIONS);
  const stream = client(definition, "grpc.reflection.v1alpha.ServerReflection").ServerReflectionInfo(deadline());
  return new Promise((resolve, reject) => {
    stream.on("error", reject);
    stream.on("data", (answer) => {
      stream.end();
      if (answer.error_response) reject({ code: answer.error_response.error_code, details: answer.error_response.error_message });
      else resolve(answer);
    });
    stream.write(request);
  });
}

// A FileDescriptorSet is its files one after the other, each behind the tag of field 1 and its length.
function descriptorSet(files) {
  const parts = [];
  for (const file of files) {
    const length = [];
    for (let left = file.length; ; left >>>= 7) {
      length.push(left > 127 ? (left & 127) | 128 : left);
      if (left <= 127) break;
    }
    parts.push(Buffer.from([10, ...length]), file);
  }
  return Buffer.concat(parts);
}

async function reflected(service) {
  const answer = await reflect({ file_containing_symbol: service });
  const set = descriptorSet(answer.file_descriptor_response.file_descriptor_proto);
  return client(loader.loadFileDescriptorSetFromBuffer(set, OPTIONS), service);
}

function unary(stub, method, request) {
  return new Promise((resolve) => {
    stub[method](request, deadline(), (error, answer) => {
      if (error) refused(method, error);
      else tell({ method, answer });
      resolve();
    });
  });
}

function stream(stub, method, request, messages) {
  return new Promise((resolve) => {
    const call = stub[method](request, deadline());
    let left = messages;
    call.on("data", (answer) => {
      tell({ method, answer });
      left -= 1;
      if (left === 0) call.cancel();
    });
    call.on("error", (error) => {
      refused(method, error);
      resolve();
    });
    call.on("end", resolve);
  });
}

// protobufjs makes no map of a reflected map field but the list of entries that it is on the wire.
function asEntries(request) {
  const { scaledObjectRef, scalerMetadata } = request;
  if (scaledObjectRef) return { ...request, scaledObjectRef: asEntries(scaledObjectRef) };
  if (!scalerMetadata) return request;
  return { ...request, scalerMetadata: Object.entries(scalerMetadata).map(([key, value]) => ({ key, value })) };
}

async function main() {
  const scaler = "externalscaler.ExternalScaler";
  const isReflected = asked.from === "reflection";
  const stub = isReflected ? await reflected(scaler) : client(loader.loadSync(PROTO, OPTIONS), scaler);
  for (const { method, request: given = {}, messages = 1 } of asked.calls) {
    const request = isReflected ? asEntries(given) : given;
    if (method === "list") {
      const answer = await reflect({ list_services: "" });
      tell({ method, answer: answer.list_services_response.service.map(({ name }) => name).sort() });
    } else if (method === "Health/Check") {
      await unary(await reflected("grpc.health.v1.Health"), "Check", request);
    } else if (method.startsWith("Stream")) {
      await stream(stub, method, request, messages);
    } else {
      await unary(stub, method, request);
    }
  }
}

main().then(() => process.exit(0), (error) => {
  refused("reflection", error);
  process.exit(0);
});
