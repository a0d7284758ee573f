// MSRs that RDMSR and WRMSR reach without asking what they are: those whose access only loads or stores. The tables hold for
// CPL 0 in root operation without callbacks, until the model or what the host alone writes changes.
import { MSR_PLACE, MSR_PLACE_MASK, MSR_READS, MSR_WRITES } from "../abi/layout";
import { placeOfMsr, plainBitsOfMsr } from "./msr";

/** Must follow a change of the model, and of state by the host. */
export function forgetMsrPlaces(): void {
  for (let i: u32 = 0; i <= <u32>MSR_PLACE_MASK; i++) {
    // an index that belongs elsewhere
    store<u32>(MSR_READS + i * MSR_PLACE, i ^ 1);
    store<u32>(MSR_WRITES + i * MSR_PLACE, i ^ 1);
  }
}

function entryOf(table: usize, index: u32): usize {
  return table + (index & MSR_PLACE_MASK) * MSR_PLACE;
}

function keep(table: usize, index: u32, place: usize, bits: u64): void {
  const e = entryOf(table, index);
  store<u32>(e, index);
  store<u32>(e, u32(place), 4);
  store<u64>(e, bits, 8);
}

/** Storage of the MSR, 0: readMsr() knows. */
export function msrToRead(index: u32): usize {
  const e = entryOf(MSR_READS, index);
  if (load<u32>(e) == index) return load<u32>(e, 4);
  const place = placeOfMsr(index);
  if (place) keep(MSR_READS, index, place, 0);
  return place;
}

/** Storage of the MSR when a write of this value is no more than a store, 0: writeMsr() knows. */
export function msrToWrite(index: u32, value: u64): usize {
  const e = entryOf(MSR_WRITES, index);
  if (load<u32>(e) != index) {
    const place = placeOfMsr(index);
    const bits = plainBitsOfMsr(index);
    if (!place || !bits) return 0;
    keep(MSR_WRITES, index, place, bits);
  }
  return value & ~load<u64>(e, 8) ? 0 : load<u32>(e, 4);
}
