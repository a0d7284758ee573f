// Shapes: what entries of the opcode maps have in common.
import { feature } from "../system/cpuid";
import { FEATURES, SHAPE_BYTES, SHAPES } from "./table.generated";

/** What an entry shares with others: {u8 format, u8 feature, u32 flags}. */
export function shapeOf(entry: usize): usize {
  return SHAPES + u32(load<u8>(entry, 2)) * SHAPE_BYTES;
}

/** Has the model what a shape needs? */
export function available(shape: usize): bool {
  const n = u32(load<u8>(shape, 1));
  if (n == 0) return true;
  const f = FEATURES + (n - 1) * 12;
  return feature(load<u32>(f), load<u32>(f, 4), load<u32>(f, 8));
}
