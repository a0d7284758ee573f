import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const local = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

/** scripts/coverage.ts: a core that reports what it decodes and executes. */
const alias = process.env.WASM_VMX_COVERAGE
  ? [{ find: /^.*coreBytes\.generated\.ts$/, replacement: local("build/coverage/coreBytes.ts") }]
  : [];

export default defineConfig({
  resolve: { alias },
  test: {
    include: ["test/**/*.test.ts"],
    setupFiles: ["test/setup.ts"],
    testTimeout: 60_000,
    // the default leaves a processor idle, of two
    maxWorkers: "100%",
  },
});
