// A region that lies in several pages is entered only where fetching from all of them would change nothing.
import { expect, it } from "vitest";
import { loadImage, Machine, parseFlat } from "../../src/index.ts";
import { lockstep } from "./lockstep.ts";

const LOAD = 0x100000;
const SECOND = LOAD + 0x1000;
const DIRECTORY = 0x200000;
const TABLE = 0x201000;
const ENTRY_OF_SECOND = TABLE + (SECOND >> 12) * 4;
const ROUNDS = 20_000;

const word = (value: number) => [value & 255, (value >> 8) & 255, (value >> 16) & 255, (value >> 24) & 255];
const jump = (from: number, to: number) => [0xe9, ...word(to - (from + 5))];

/** Clears the accessed bit of its second page, goes there, and adds up what the page-table entry then says. */
function program(): Uint8Array {
  const image = new Uint8Array(0x2000);
  const setup = [
    ...[0xbf, ...word(TABLE), 0xb8, ...word(7), 0xb9, ...word(1024)], // mov edi, TABLE; mov eax, 7; mov ecx, 1024
    ...[0xab, 0x05, ...word(0x1000), 0xe2, 0xf8], // l: stosd; add eax, 4096; loop l
    ...[0xc7, 0x05, ...word(DIRECTORY), ...word(TABLE + 7)], // mov dword [DIRECTORY], TABLE + 7
    ...[0xb8, ...word(DIRECTORY), 0x0f, 0x22, 0xd8], // mov eax, DIRECTORY; mov cr3, eax
    ...[0x0f, 0x20, 0xc0, 0x0d, ...word(0x80000000), 0x0f, 0x22, 0xc0], // mov eax, cr0; or eax, PG; mov cr0, eax
    ...[0xb9, ...word(ROUNDS), 0x31, 0xd2], // mov ecx, ROUNDS; xor edx, edx
  ];
  const round = LOAD + setup.length;
  const first = [
    ...[0x8b, 0x1d, ...word(ENTRY_OF_SECOND), 0x83, 0xe3, 0x20, 0x01, 0xda], // mov ebx, [entry]; and ebx, A; add edx, ebx
    ...[0x80, 0x25, ...word(ENTRY_OF_SECOND), 0xdf], // and byte [entry], ~A
    ...[0xeb, 0x00, 0xeb, 0x00, 0xeb, 0x00], // some blocks that a region may start at
  ];
  image.set([...setup, ...first, ...jump(round + first.length, SECOND)]);
  const second = [0x49, 0x0f, 0x85]; // dec ecx; jnz round
  image.set([...second, ...word(round - (SECOND + second.length + 4)), 0xf4], SECOND - LOAD);
  return image;
}

const image = parseFlat(program(), { mode: "protected", load: LOAD, entry: LOAD });

it.each([0, 1, 500])("sets the accessed bit of each page it fetches from, hot after %i", (jit) => {
  const machine = new Machine({ memory: 4 << 20, jit });
  loadImage(machine, image);
  expect(machine.run().reason).toBe("halt");
  expect(machine.registers.rdx).toBe(BigInt((ROUNDS - 1) * 0x20));
});

it("gives the interpreter's memory", () => {
  lockstep(image, () => 500, 200_000, 4 << 20);
});
