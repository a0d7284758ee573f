// MOVBE, CRC32, ADCX and ADOX, CMPXCHG8B and 16B, MOVNTI, BOUND. @sdm 2A-2B the instructions' own pages
import { R_DST, R_SIZE, R_SRC } from "../abi/record";
import { FLAG_CARRIES, GPR, RAX, RBX, RCX, RDX, SEGS, SG_EFFECTIVE } from "../abi/state";
import { VEC_BR, VEC_GP, VEC_UD } from "../abi/x86";
import { probeModify, probeWrite } from "../memory/access";
import { getCF, getOF, setCF } from "../state/flags";
import { aborted, raise, raiseError } from "../state/stop";
import { hasCmpxchg16b } from "../system/features";
import { dst, effectiveAddress, readRmSource, segmentOf } from "./operands";
import { setPair } from "./privilege";
import { addressPlus, dstSized, readBytes, rmSource, setDstSized, setZeroFlag, sizeOf, truncate } from "./sized";

function swapBytes(v: u64, size: u32): u64 {
  const pairs = ((v & 0x00ff00ff00ff00ff) << 8) | ((v >> 8) & 0x00ff00ff00ff00ff);
  const words = ((pairs & 0x0000ffff0000ffff) << 16) | ((pairs >> 16) & 0x0000ffff0000ffff);
  return rotr<u64>(words, 32) >> <u64>(64 - size * 8);
}

export function movbeLoad(rec: usize): void {
  const v = rmSource(rec);
  if (!aborted()) setDstSized(rec, swapBytes(v, sizeOf(rec)));
}

/** Stores the low `size` bytes (2, 4, 8). */
function storeSized(at: u32, value: u64, size: u32): void {
  if (size == 8) store<u64>(at, value);
  else if (size == 4) store<u32>(at, <u32>value);
  else store<u16>(at, <u16>value);
}

export function movbeStore(rec: usize): void {
  const size = sizeOf(rec);
  const at = probeWrite(segmentOf(rec), effectiveAddress(rec), size);
  if (at) storeSized(at, swapBytes(load<u64>(GPR + load<u8>(rec, R_SRC)), size), size);
}

export function movnti(rec: usize): void {
  const size = sizeOf(rec);
  const at = probeWrite(segmentOf(rec), effectiveAddress(rec), size);
  if (at) storeSized(at, load<u64>(GPR + load<u8>(rec, R_SRC)), size);
}

// CRC-32C (polynomial 11EDC6F41H), bits reflected, four bits at a time
const nibbles: usize = memory.data<u32>([
  0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d, 0x82f63b78,
  0x92a8fc17, 0xa24bb5a6, 0xb21572c9, 0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
]);

function crc32c(crc: u32, data: u64, bytes: u32): u32 {
  for (let i: u32 = 0; i < bytes; i++) {
    crc ^= <u32>(data >> <u64>(i * 8)) & 0xff;
    crc = (crc >> 4) ^ load<u32>(nibbles + (crc & 15) * 4);
    crc = (crc >> 4) ^ load<u32>(nibbles + (crc & 15) * 4);
  }
  return crc;
}

export function crc32Eb(rec: usize): void {
  const v = readRmSource<u8>(rec);
  if (!aborted()) setDstSized(rec, <u64>crc32c(dst<u32>(rec), v, 1));
}

/** The destination has 32 or 64 bits, whatever the source. */
export function crc32Ev(rec: usize): void {
  const v = rmSource(rec);
  if (aborted()) return;
  const crc = crc32c(dst<u32>(rec), v, sizeOf(rec));
  store<u64>(GPR + load<u8>(rec, R_DST), <u64>crc);
}

/** Sum and carry out of a + b + carry. */
let carryOut: u32 = 0;
function addCarry(a: u64, b: u64, carry: u32, size: u32): u64 {
  const sum = a + b + carry;
  if (size == 8) carryOut = <u32>(((a & b) | ((a | b) & ~sum)) >> 63);
  else carryOut = <u32>(sum >> 32);
  return truncate(sum, size);
}

/** CF alone. */
export function adcx(rec: usize): void {
  const b = rmSource(rec);
  if (aborted()) return;
  setDstSized(rec, addCarry(dstSized(rec), b, getCF(), sizeOf(rec)));
  setCF(carryOut);
}

/** OF alone. */
export function adox(rec: usize): void {
  const b = rmSource(rec);
  if (aborted()) return;
  setDstSized(rec, addCarry(dstSized(rec), b, getOF(), sizeOf(rec)));
  const c = load<u32>(FLAG_CARRIES);
  // OF = bit 31 ^ bit 30
  store<u32>(FLAG_CARRIES, (c & 0xbfffffff) | (((c >>> 31) ^ carryOut) << 30));
}

/** ZF alone. The destination is written in both cases. */
export function cmpxchg8b(rec: usize): void {
  if (load<u8>(rec, R_SIZE) == 8) {
    cmpxchg16b(rec);
    return;
  }
  const at = probeModify(segmentOf(rec), effectiveAddress(rec), 8);
  if (!at) return;
  const old = load<u64>(at);
  const equal = old == (((<u64>load<u32>(RDX)) << 32) | load<u32>(RAX));
  if (equal) store<u64>(at, ((<u64>load<u32>(RCX)) << 32) | load<u32>(RBX));
  else {
    store<u64>(at, old);
    setPair(RDX, RAX, old);
  }
  setZeroFlag(equal);
}

/** #GP(0) unless the operand is aligned on 16 bytes. */
function cmpxchg16b(rec: usize): void {
  if (!hasCmpxchg16b()) {
    raise(VEC_UD);
    return;
  }
  const seg = segmentOf(rec);
  const ea = effectiveAddress(rec);
  if ((ea + load<u64>(SEGS + seg + SG_EFFECTIVE)) & 15) {
    raiseError(VEC_GP, 0);
    return;
  }
  const at = probeModify(seg, ea, 16);
  if (!at) return;
  const low = load<u64>(at);
  const high = load<u64>(at, 8);
  const equal = low == load<u64>(RAX) && high == load<u64>(RDX);
  store<u64>(at, equal ? load<u64>(RBX) : low);
  store<u64>(at, equal ? load<u64>(RCX) : high, 8);
  if (!equal) {
    store<u64>(RAX, low);
    store<u64>(RDX, high);
  }
  setZeroFlag(equal);
}

/** #BR when the signed index lies outside the two bounds in memory. */
export function bound(rec: usize): void {
  const size = sizeOf(rec);
  const seg = segmentOf(rec);
  const low = readBytes(seg, effectiveAddress(rec), size);
  if (aborted()) return;
  const i = signed(dstSized(rec), size);
  // processors read the upper bound only when the lower one holds
  if (i < signed(low, size)) return raise(VEC_BR);
  const high = readBytes(seg, addressPlus(rec, size), size);
  if (!aborted() && i > signed(high, size)) raise(VEC_BR);
}

function signed(v: u64, size: u32): i64 {
  const shift = <i64>(64 - size * 8);
  return ((<i64>v) << shift) >> shift;
}
