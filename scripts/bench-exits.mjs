// npm run --silent bench:exits [-- EXITS]. Builds first when nothing is built.
import { runBuilt } from "./run-built.mjs";

await runBuilt("exits");
