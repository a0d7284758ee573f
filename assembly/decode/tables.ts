// The tables of operations and opcodes, from their short forms in the module.
import { OPERATIONS } from "../abi/layout";
import { GROUP_COUNT, GROUPS } from "./operations.generated";
import { shapeOf } from "./shape";
import {
  ENTRY_BYTES,
  ENTRY_COUNT,
  ENTRY_SHAPES,
  ENTRY_STEPS,
  F_NODE,
  OPCODES,
  UNDEFINED_SHAPES,
} from "./table.generated";

/** u16 first operation of each group. */
const firsts: usize = memory.data(GROUP_COUNT * 2, 2);

/** Once, before anything is decoded. */
export function initTables(): void {
  fillOperations();
  fillOpcodes();
}

function fillOperations(): void {
  let to: usize = OPERATIONS;
  for (let group: u32 = 0; group < GROUP_COUNT; group++) {
    store<u16>(firsts + (group << 1), u32(to - OPERATIONS) >> 2);
    const from = GROUPS + group;
    const shape: u32 = load<u8>(from, 2 * GROUP_COUNT);
    const sizes = (shape >> 5) & 3;
    const step = (shape >> 3) & 3;
    const first = shape & 0x87;
    for (let form = first; form <= first + step; form += step) {
      for (let size = sizes; size <= (sizes == 2 ? 8 : sizes); size <<= 1) {
        store<u8>(to, load<u8>(from));
        store<u8>(to, load<u8>(from, GROUP_COUNT), 1);
        store<u8>(to, size, 2);
        store<u8>(to, form, 3);
        to += 4;
        if (!size) break;
      }
      if (!step) break;
    }
  }
}

function fillOpcodes(): void {
  let from = ENTRY_STEPS;
  let leaf: u32 = 0;
  let node: u32 = 0;
  for (let i: u32 = 0; i < ENTRY_COUNT; i++) {
    const entry = OPCODES + i * ENTRY_BYTES;
    const shape: u32 = load<u8>(ENTRY_SHAPES + i);
    store<u8>(entry, shape, 2);
    if (shape < UNDEFINED_SHAPES) continue;
    let folded: u32 = load<u8>(from++);
    if (folded & 128) folded = (folded & 127) | (u32(load<u8>(from++)) << 7);
    const step = (folded >> 1) ^ (0 - (folded & 1));
    if (load<u32>(shapeOf(entry), 2) & F_NODE) {
      node += step;
      store<u16>(entry, node);
    } else {
      leaf += step;
      store<u16>(entry, load<u16>(firsts + (leaf << 1)));
    }
  }
}
