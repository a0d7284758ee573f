// Links generated code: function bodies that the core wrote into its memory become a module whose functions go into the
// core's table (execution.md, hot tier).
import type { CoreExports } from "./exports.ts";

/** Regions that exist at a time (JIT_REGION_MAX). */
const SLOTS = 1024;

const unsigned = (value: number): number[] => {
  const out: number[] = [];
  for (let v = value; ; v >>>= 7) {
    if (v < 0x80) {
      out.push(v);
      return out;
    }
    out.push((v & 0x7f) | 0x80);
  }
};
const section = (id: number, body: readonly number[]): number[] => [id, ...unsigned(body.length), ...body];

/** A module of `count` functions (i32, i32) -> i32 over the imported memory; `bodies` carry their sizes. */
function moduleOf(count: number, bodies: Uint8Array): Uint8Array<ArrayBuffer> {
  const names: number[] = [];
  for (let i = 0; i < count; i++) {
    const name = Array.from(`${i}`, (c) => c.charCodeAt(0));
    names.push(...unsigned(name.length), ...name, 0, ...unsigned(i));
  }
  const counted = unsigned(count);
  const head = [
    ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, [1, 0x60, 2, 0x7f, 0x7f, 1, 0x7f]),
    ...section(2, [1, 1, 0x6d, 1, 0x6d, 2, 0, 1]),
    ...section(3, [...counted, ...Array<number>(count).fill(0)]),
    ...section(7, [...counted, ...names]),
    ...[10, ...unsigned(counted.length + bodies.length), ...counted],
  ];
  const out = new Uint8Array(head.length + bodies.length);
  out.set(head);
  out.set(bodies, head.length);
  return out;
}

let warned = false;

/** The jitCompile import. Where modules cannot be compiled (no wasm-unsafe-eval) it says so once and answers 0. */
export function linkGenerated(core: () => CoreExports | undefined) {
  let base = 0;
  return (code: number, bytes: number, count: number, places: number): number => {
    const exports = core();
    if (!exports) return 0;
    const { memory, table } = exports;
    if (base === 0) base = table.grow(SLOTS);
    try {
      const module = new WebAssembly.Module(moduleOf(count, new Uint8Array(memory.buffer, code, bytes)));
      const instance = new WebAssembly.Instance(module, { m: { m: memory } });
      const place = new Uint32Array(memory.buffer, places, count);
      for (let i = 0; i < count; i++) table.set(base + place[i]!, instance.exports[i]);
      return base;
    } catch (error) {
      if (!warned) {
        warned = true;
        console.warn(`wasm-vmx: generated code cannot be compiled here, the interpreter goes on alone (${error})`);
      }
      return 0;
    }
  };
}
