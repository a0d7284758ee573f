import { readFileSync } from "node:fs";
import { MergeError, mergeResults, type SweepResults } from "../lab/index.ts";
import { UsageError } from "./args.ts";

function read(file: string): SweepResults {
  let value: SweepResults;
  try {
    value = JSON.parse(readFileSync(file, "utf8")) as SweepResults;
  } catch (error) {
    throw new UsageError(`cannot read results ${file}: ${(error as Error).message}`);
  }
  if (!String(value?.format).startsWith("wasm-vmx lab ") || !Array.isArray(value.cells)) {
    throw new UsageError(`${file} holds no results of wasm-vmx lab --json or --shard`);
  }
  return value;
}

/** The whole sweep from the files of its shards. */
export function mergeFiles(files: readonly string[]): SweepResults {
  if (files.length === 0) throw new UsageError("nothing to merge: wasm-vmx lab merge FILE...");
  try {
    return mergeResults(files.map(read));
  } catch (error) {
    if (error instanceof MergeError) throw new UsageError(error.message);
    throw error;
  }
}
