// Bytes of each entry of the package when a bundler has dropped what is not used: minified, and compressed.
//   npm run --silent size [-- --json]
import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import { root } from "./build.mjs";

/** What an application writes, and what it keeps. */
const APPLICATIONS = {
  "a processor (Machine)": `import { Machine } from "wasm-vmx"; console.log(new Machine().run({ maxInstructions: 1 }));`,
  "the disassembler": `import { disassemble } from "wasm-vmx"; console.log(disassemble(new Uint8Array(1), { mode: 64 }));`,
  "all of wasm-vmx": `import * as all from "wasm-vmx"; console.log(all);`,
  "wasm-vmx/kvm (Kvm)": `import { Kvm } from "wasm-vmx/kvm"; console.log(new Kvm());`,
  "wasm-vmx/gdb (GdbSession)": `import { GdbSession } from "wasm-vmx/gdb"; console.log(GdbSession);`,
  "wasm-vmx/policy": `import * as all from "wasm-vmx/policy"; console.log(all);`,
};

export async function sizes() {
  const rows = [];
  for (const [name, contents] of Object.entries(APPLICATIONS)) {
    const { outputFiles } = await build({
      stdin: { contents, resolveDir: root },
      bundle: true,
      minify: true,
      write: false,
      format: "esm",
      platform: "browser",
      logLevel: "silent",
    });
    const [{ contents: bytes }] = outputFiles;
    rows.push({ name, minified: bytes.length, gzip: gzipSync(bytes).length });
  }
  return rows;
}

if (process.argv[1]?.endsWith("size.mjs")) {
  const rows = await sizes();
  if (process.argv.includes("--json")) console.log(JSON.stringify(rows));
  else {
    const kb = (bytes) => `${(bytes / 1024).toFixed(1)} KB`.padStart(10);
    for (const { name, minified, gzip } of rows) console.log(`${name.padEnd(28)}${kb(minified)}${kb(gzip)} gzip`);
  }
}
