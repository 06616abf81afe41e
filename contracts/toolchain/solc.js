#!/usr/bin/env node
// A `solc` command over the npm package of the same name (the official WebAssembly build), as far as py-solc-x,
// forge and slither need it: --version, and --standard-json with --base-path, --include-path and --allow-paths.
// An import is read only below the base path or an include path.
"use strict";

const fs = require("node:fs");
const path = require("node:path");

const options = parse(process.argv.slice(2));
const solc = require("solc");
// The WebAssembly build turns every exception into its own abort: leave them to Node.
process.removeAllListeners("uncaughtException");
process.removeAllListeners("unhandledRejection");

if (options.version) {
  write(`solc, the solidity compiler commandline interface\nVersion: ${solc.version()}\n`);
} else if (options.standardJson) {
  const input = fs.readFileSync(options.input ?? 0, "utf8");
  write(solc.compile(input, { import: readImport }) + "\n");
} else {
  process.stderr.write("solc.js: only --version and --standard-json are supported\n");
  process.exitCode = 2;
}

function parse(args) {
  const found = { version: false, standardJson: false, input: null, roots: [] };
  while (args.length > 0) {
    const [name, ...rest] = args.shift().split("=");
    const value = () => (rest.length > 0 ? rest.join("=") : args.shift());
    if (name === "--version") found.version = true;
    else if (name === "--standard-json") found.standardJson = true;
    else if (name === "--base-path" || name === "--include-path") found.roots.push(fs.realpathSync(value()));
    else if (name === "--allow-paths") value(); // the roots are the only allowed paths here
    else if (!name.startsWith("-")) found.input = name;
    else if (name !== "-") {
      process.stderr.write(`solc.js: unknown option ${name}\n`);
      process.exit(2);
    }
  }
  return found;
}

function readImport(name) {
  for (const root of options.roots) {
    let file;
    try {
      file = fs.realpathSync(path.resolve(root, name));
    } catch {
      continue;
    }
    if (file.startsWith(root + path.sep)) return { contents: fs.readFileSync(file, "utf8") };
  }
  return { error: `File not found below ${options.roots.join(", ") || "any allowed root"}` };
}

function write(text) {
  // A pipe may take only part of it, and exiting early would lose the rest.
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length; ) {
    try {
      at += fs.writeSync(1, bytes, at);
    } catch (error) {
      if (error.code !== "EAGAIN") throw error;
    }
  }
}
