// MSR bitmaps by the positions of msrs.csv, and I/O bitmaps. SDM 3C "MSR-Bitmap Address", "I/O-Bitmap Addresses".
import { beforeEach, describe, expect, it } from "vitest";
import * as c from "../../assembly/abi/controls.ts";
import { table } from "../../scripts/vmx-tables.ts";
import type { Fields } from "./guests.ts";
import { RAX, RCX, RDI, RDX, RSI, Running, START, u32 } from "./running.ts";

const vmx = new Running();
beforeEach(() => vmx.fresh());

const MSRS = 0x10000n;
const IO_A = 0x11000n;
const IO_B = 0x12000n;
const RDMSR = [0x0f, 0x32];
const WRMSR = [0x0f, 0x30];
const controls = (...bits: number[]): Fields => ({
  PRIMARY_PROC_BASED_CONTROLS: u32(c.PRIMARY_REQUIRED, ...bits),
  MSR_BITMAP_ADDRESS: MSRS,
  IO_BITMAP_A_ADDRESS: IO_A,
  IO_BITMAP_B_ADDRESS: IO_B,
  EXCEPTION_BITMAP: 0x2000n, // #GP of an MSR that does not exist
});

function msrReason(code: readonly number[], index: number): number {
  vmx.start(code, controls(c.PRIMARY_USE_MSR_BITMAPS), { [RCX]: BigInt(index), [RAX]: 0n, [RDX]: 0n });
  return vmx.runToExit().reason;
}

interface Position {
  readonly title: string;
  readonly index: number;
  readonly bit: number;
  readonly read: number;
  readonly write: number;
}
const positions: Position[] = table("msrs").flatMap((row) => {
  const match = /bit (\d): read \+0x([0-9a-f]+), write \+0x([0-9a-f]+)/.exec(row.msr_bitmap_position!);
  if (!match) return [];
  const [bit, read, write] = [Number(match[1]), Number.parseInt(match[2]!, 16), Number.parseInt(match[3]!, 16)];
  return [{ title: `${row.index} ${row.name}`, index: Number(row.index), bit, read, write }];
});

describe("MSR bitmaps", () => {
  it("the table has positions", () => expect(positions.length).toBeGreaterThan(50));

  describe.each([
    { code: RDMSR, reason: 31, which: "read" },
    { code: WRMSR, reason: 32, which: "write" },
  ] as const)("$which", ({ code, reason, which }) => {
    it.each(positions)("$title: its bit alone makes it exit", ({ index, bit, [which]: byte }) => {
      vmx.poke(MSRS + BigInt(byte), [1 << bit]);
      expect(msrReason(code, index)).toBe(reason);
    });
    it.each(positions)("$title: all other bits do not", ({ index, bit, [which]: byte }) => {
      vmx.fill(MSRS, 4096, 0xff);
      vmx.poke(MSRS + BigInt(byte), [0xff & ~(1 << bit)]);
      expect(msrReason(code, index)).not.toBe(reason);
    });
    it.each([0x2000, 0x4b564d01, 0xbfffffff, 0xc0002000, 0xffffffff])("%i is outside both ranges", (index) => {
      expect(msrReason(code, index)).toBe(reason);
    });
    it("without bitmaps every access exits", () => {
      vmx.start(code, controls(), { [RCX]: 0x10n });
      expect(vmx.runToExit().reason).toBe(reason);
    });
  });
});

const IN_AL_DX = [0xec];
const OUT_DX_AL = [0xee];
const OUT_DX_EAX = [0xef];
const qualification = (port: number, size: number, bits = 0): bigint =>
  BigInt(((port << 16) | bits | (size - 1)) >>> 0);

describe("I/O", () => {
  it.each([
    { title: "IN AL, DX", code: IN_AL_DX, size: 1, bits: 8 },
    { title: "IN AX, DX", code: [0x66, 0xed], size: 2, bits: 8 },
    { title: "IN EAX, DX", code: [0xed], size: 4, bits: 8 },
    { title: "OUT DX, AL", code: OUT_DX_AL, size: 1, bits: 0 },
    { title: "OUT DX, EAX", code: OUT_DX_EAX, size: 4, bits: 0 },
    { title: "IN AL, E9H", code: [0xe4, 0xe9], size: 1, bits: 8 | 64, port: 0xe9 },
    { title: "OUT E9H, EAX", code: [0xe7, 0xe9], size: 4, bits: 64, port: 0xe9 },
  ])("unconditional: $title", ({ code, size, bits, port }) => {
    vmx.start(code, controls(c.PRIMARY_UNCONDITIONAL_I_O_EXITING), { [RDX]: 0x3f8n });
    expect(vmx.runToExit()).toEqual({ reason: 30, qualification: qualification(port ?? 0x3f8, size, bits) });
    expect(vmx.read("EXIT_INSTRUCTION_LENGTH")).toBe(BigInt(code.length));
    expect(vmx.read("EXIT_INSTRUCTION_INFO")).toBe(0n);
  });

  // table 27-8: address size 9:7 (2 = 64 bits), segment 17:15
  it.each([
    { title: "OUTSB", code: [0x6e], bits: 16, linear: 0x9000n, info: (2n << 7n) | (3n << 15n) },
    { title: "FS OUTSB", code: [0x64, 0x6e], bits: 16, linear: 0x9000n, info: (2n << 7n) | (4n << 15n) },
    { title: "REP INSB", code: [0xf3, 0x6c], bits: 8 | 16 | 32, linear: 0xa000n, info: 2n << 7n },
    { title: "INSD, 32-bit addresses", code: [0x67, 0x6d], bits: 8 | 16, size: 4, linear: 0xa000n, info: 1n << 7n },
  ])("string: $title", ({ code, bits, size, linear, info }) => {
    const gprs = { [RDX]: 0x3f8n, [RSI]: 0x9000n, [RDI]: 0xa000n, [RCX]: 2n };
    vmx.start(code, controls(c.PRIMARY_UNCONDITIONAL_I_O_EXITING), gprs);
    expect(vmx.runToExit()).toEqual({ reason: 30, qualification: qualification(0x3f8, size ?? 1, bits) });
    expect(vmx.read("GUEST_LINEAR_ADDRESS")).toBe(linear);
    expect(vmx.read("EXIT_INSTRUCTION_INFO")).toBe(info);
  });

  it("without either control the port is accessed", () => {
    vmx.ports = [];
    vmx.start(OUT_DX_AL, controls(), { [RDX]: 0x3f8n, [RAX]: 0x41n });
    expect(vmx.runToExit().reason).toBe(18);
  });

  describe("bitmaps", () => {
    const bitmaps = controls(c.PRIMARY_USE_I_O_BITMAPS, c.PRIMARY_UNCONDITIONAL_I_O_EXITING);
    const reason = (code: readonly number[], port: number) => {
      vmx.start(code, bitmaps, { [RDX]: BigInt(port) });
      return vmx.runToExit().reason;
    };
    const bit = (port: number): [bigint, number] => [
      (port < 0x8000 ? IO_A : IO_B) + BigInt((port & 0x7fff) >> 3),
      1 << (port & 7),
    ];
    const ports = [0, 1, 7, 8, 0xe9, 0x3f8, 0x7fff, 0x8000, 0x8001, 0xfff8, 0xffff];

    it.each(ports)("port %i: its bit alone makes it exit", (port) => {
      const [at, mask] = bit(port);
      vmx.poke(at, [mask]);
      expect(reason(IN_AL_DX, port)).toBe(30);
    });
    it.each(ports)("port %i: all other bits do not", (port) => {
      vmx.fill(IO_A, 8192, 0xff);
      const [at, mask] = bit(port);
      vmx.poke(at, [0xff & ~mask]);
      expect(reason(IN_AL_DX, port)).toBe(18);
    });
    it.each([0x3f8, 0x3f9, 0x3fa, 0x3fb])("a doubleword at 3f8H exits for the bit of %i", (port) => {
      const [at, mask] = bit(port);
      vmx.poke(at, [mask]);
      expect(reason(OUT_DX_EAX, 0x3f8)).toBe(30);
    });
    it("and not for the bit behind it", () => {
      const [at, mask] = bit(0x3fc);
      vmx.poke(at, [mask]);
      expect(reason(OUT_DX_EAX, 0x3f8)).toBe(18);
    });
    it("a doubleword across 8000H looks at both pages", () => {
      const [at, mask] = bit(0x8000);
      vmx.poke(at, [mask]);
      expect(reason(OUT_DX_EAX, 0x7ffd)).toBe(30);
    });
    it("an access that wraps past FFFFH exits", () => {
      expect(reason(OUT_DX_EAX, 0xfffd)).toBe(30);
      expect(vmx.read("GUEST_RIP")).toBe(START);
    });
  });
});
