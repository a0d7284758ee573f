// VM exits of a guest that is a hypervisor: fixtures/guests/src/hypervisor-exits.asm. Its guest loops over one instruction
// that exits; the exit handler, in guest code too, reads the reason and the length, moves RIP and resumes.
import { genericModel, loadImage, Machine, parseFlat } from "../machine/index.ts";
import { EXIT_CASES, type ExitTiming } from "./exits.ts";
import { cpuTime } from "./guest.ts";

const ORIGIN = 0x100000;
/** Place of the count in the image. */
const COUNT = 0x10;
const SLICE = 10_000_000;

/** `count` exits of each kind; throws when the guest says that something went wrong. */
export function timeGuestExits(image: Uint8Array, count: number): ExitTiming[] {
  const bytes = Uint8Array.from(image);
  new DataView(bytes.buffer).setUint32(COUNT, count, true);
  const machine = new Machine({ memory: 16 << 20, extraMemory: 0, cpu: genericModel({ vmx: true }) });
  const begin: number[] = [];
  const nanoseconds: number[] = [];
  let text = "";
  let status: number | undefined;
  machine.onPortOut(0xe9, (_port, value) => {
    text += String.fromCharCode(value & 0xff);
    return true;
  });
  machine.onPortOut(0x80, (_port, value) => {
    const now = (cpuTime() ?? performance.now() / 1e3) * 1e9;
    const kind = value & 15;
    if (value & 0x10) begin[kind] = now;
    else nanoseconds[kind] = (now - begin[kind]!) / count;
    return true;
  });
  machine.onPortOut(0xf4, (_port, value) => {
    status = value & 0xff;
    machine.stop();
    return true;
  });
  loadImage(machine, parseFlat(bytes, { mode: "long", load: ORIGIN, entry: ORIGIN }));
  while (machine.run({ maxInstructions: SLICE }).reason === "instructions");
  if (status !== 0 || nanoseconds.length !== EXIT_CASES.length) {
    throw new Error(`the guest hypervisor ended with status ${status}:\n${text}`);
  }
  return EXIT_CASES.map(({ name }, kind) => ({
    name,
    nanoseconds: nanoseconds[kind]!,
    exitsPerSecond: 1e9 / nanoseconds[kind]!,
  }));
}
