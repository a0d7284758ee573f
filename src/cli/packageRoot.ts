import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** The package's own files: dist/src/cli and src/cli lie at different depths. */
export function packageRoot(): URL {
  let directory = new URL("./", import.meta.url);
  while (!existsSync(fileURLToPath(new URL("package.json", directory)))) {
    const parent = new URL("../", directory);
    if (parent.href === directory.href) throw new Error("the package.json of wasm-vmx is missing");
    directory = parent;
  }
  return directory;
}
