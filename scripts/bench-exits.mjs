// npm run --silent bench:exits [-- EXITS]. Builds first when nothing is built.
import { fileURLToPath } from "node:url";
import { runBuilt } from "./run-built.mjs";

await runBuilt("exitRates", fileURLToPath(new URL("../fixtures/guests/bin/hypervisor-exits.bin", import.meta.url)));
