// npm run --silent bench:guest -- FILE LOAD ENTRY. Builds first when nothing is built; stdout carries JSON only.
import { runBuilt } from "./run-built.mjs";

await runBuilt("guest");
