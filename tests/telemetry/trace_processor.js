// Perfetto's trace processor as ui.perfetto.dev runs it (a web worker made of WebAssembly), between two pipes: what comes
// in at stdin are requests, what goes out at stdout the answers, both framed as the page frames them.
//
//     node trace_processor.js FOLDER    (one with engine_bundle.js and trace_processor.wasm)

"use strict";
const fs = require("fs");
const path = require("path");

const folder = process.argv[2];
const script = fs.readFileSync(path.join(folder, "engine_bundle.js"), "utf8");

// It was built for browsers only, and looks for these few things of theirs; what it says to its console is no answer.
const say = (...words) => process.stderr.write(words.join(" ") + "\n");
const browser = {
  self: { location: { href: "http://localhost/engine_bundle.js" } },
  WorkerGlobalScope: Object,
  console: { log: say, warn: say, error: say },
  XMLHttpRequest: class {
    open(_method, url) {
      this.file = path.basename(url);
    }
    send() {
      this.response = fs.readFileSync(path.join(folder, this.file));
    }
  },
  process: undefined, // which would tell it that this is no browser
};
new Function(...Object.keys(browser), script)(...Object.values(browser));

const page = { postMessage: (answer) => fs.writeSync(1, answer) };
browser.self.onmessage({ data: page });
process.stdin.on("data", (request) => page.onmessage({ data: new Uint8Array(request) }));
