import { afterEach, expect, it } from "vitest";
import { loadImage, Machine, parseFlat } from "../../src/index.ts";
import { lockstep } from "./lockstep.ts";

const { Module } = WebAssembly;

afterEach(() => {
  WebAssembly.Module = Module;
});

const LOAD = 0x100000;
const COLD = 0x200000;
const HOT = 0x300000;
const COLD_FUNCTIONS = 9000;
const HOT_FUNCTIONS = 128;

const word = (value: number) => [value & 255, (value >> 8) & 255, (value >> 16) & 255, (value >> 24) & 255];

/** Calls 9000 functions once each, and after each of them one of 128 others in turn; then halts. */
function program(): Uint8Array {
  const code = [0xbc, ...word(0x80000), 0xbe, ...word(COLD), 0x31, 0xff, 0xbd, ...word(COLD_FUNCTIONS)];
  const top = code.length;
  code.push(0xff, 0xd6); // call esi
  code.push(0x89, 0xfa, 0x83, 0xe2, HOT_FUNCTIONS - 1); // mov edx, edi; and edx, 127
  code.push(0xc1, 0xe2, 6, 0x81, 0xc2, ...word(HOT), 0xff, 0xd2); // shl edx, 6; add edx, HOT; call edx
  code.push(0x83, 0xc6, 64, 0x47, 0x4d); // add esi, 64; inc edi; dec ebp
  code.push(0x0f, 0x85, ...word(top - (code.length + 6)), 0xf4); // jnz top; hlt
  const image = new Uint8Array(HOT + HOT_FUNCTIONS * 64 - LOAD);
  image.set(code);
  // add eax, n; rol eax, 3; ret
  const fn = (at: number, n: number) => image.set([0x05, ...word(n), 0xc1, 0xc0, 3, 0xc3], at - LOAD);
  for (let i = 0; i < COLD_FUNCTIONS; i++) fn(COLD + i * 64, i * 0x9e3779b1);
  for (let i = 0; i < HOT_FUNCTIONS; i++) fn(HOT + i * 64, i);
  return image;
}

it("keeps the regions in use when the cache is full", () => {
  let functions = 0;
  WebAssembly.Module = class extends Module {
    constructor(bytes: BufferSource) {
      super(bytes);
      functions += Module.exports(this).length;
    }
  } as typeof Module;
  const machine = new Machine({ memory: 4 << 20, jit: 1 });
  loadImage(machine, parseFlat(program(), { mode: "protected", load: LOAD, entry: LOAD }));
  let exit = machine.run({ maxWork: 100 });
  while (exit.reason === "slice") exit = machine.run({ maxWork: 100 });
  expect(exit.reason).toBe("halt");
  // one for each function and a few for the loop: the functions called again and again are made once
  expect(functions).toBeGreaterThan(COLD_FUNCTIONS);
  expect(functions).toBeLessThan(COLD_FUNCTIONS + HOT_FUNCTIONS + 100);
});

it("gives the interpreter's results while regions come and go", () => {
  lockstep(parseFlat(program(), { mode: "protected", load: LOAD, entry: LOAD }), () => 700, 100_000, 4 << 20);
});
