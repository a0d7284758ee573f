// The control-flow graph of a region. Node 0 is the central node: it leads to every entry (the region's own, call
// targets, return sites), and jumps whose target is known only at run time go back to it. A retreating edge to a block
// that does not dominate its source goes through the central node too, so the graph is reducible.
import { JIT_WORK } from "../abi/layout";

export const NODE_MAX: u32 = 160;
export const NONE: u32 = 0xffff;

// node: 32 bytes
//   0 u64 rip  8 u32 block header  12 u16 taken  14 u16 fall  16 u16 rpo  18 u16 idom  20 u16 entry number (0: none)
//   22 u8 merge  23 u8 loop header  28 u16 forward in-edges
const NODES: u32 = JIT_WORK;
const ORDER: u32 = JIT_WORK + 0x2000; // u16: node of each reverse-postorder number
const MARK: u32 = JIT_WORK + 0x2400; // u8 a node

export let nodeCount: u32 = 0;
export let entryCount: u32 = 0;
const ENTRIES: u32 = JIT_WORK + 0x2800; // u16: node of each entry number - 1
let reached: u32 = 0;

function node(n: u32): u32 {
  return NODES + (n << 5);
}
export function ripOf(n: u32): u64 {
  return load<u64>(node(n));
}
export function blockOf(n: u32): u32 {
  return load<u32>(node(n), 8);
}
export function takenOf(n: u32): u32 {
  return load<u16>(node(n), 12);
}
export function fallOf(n: u32): u32 {
  return load<u16>(node(n), 14);
}
export function setSuccessors(n: u32, taken: u32, fall: u32): void {
  store<u16>(node(n), taken, 12);
  store<u16>(node(n), fall, 14);
}
export function rpoOf(n: u32): u32 {
  return load<u16>(node(n), 16);
}
export function idomOf(n: u32): u32 {
  return load<u16>(node(n), 18);
}
export function entryOf(n: u32): u32 {
  return load<u16>(node(n), 20);
}
export function isMerge(n: u32): bool {
  return load<u8>(node(n), 22) != 0;
}
export function isLoop(n: u32): bool {
  return load<u8>(node(n), 23) != 0;
}
export function hasLoops(): bool {
  for (let n: u32 = 1; n < nodeCount; n++) if (isLoop(n)) return true;
  return false;
}
export function clearGraph(): void {
  memory.fill(NODES, 0, 64);
  nodeCount = 1;
  entryCount = 0;
  setSuccessors(0, NONE, NONE);
}

export function findNode(rip: u64): u32 {
  for (let n: u32 = 1; n < nodeCount; n++) if (ripOf(n) == rip) return n;
  return NONE;
}

export function addNode(rip: u64, block: u32): u32 {
  const n = nodeCount++;
  memory.fill(node(n), 0, 32);
  store<u64>(node(n), rip);
  store<u32>(node(n), block, 8);
  setSuccessors(n, NONE, NONE);
  return n;
}

export function makeEntry(n: u32): void {
  if (entryOf(n)) return;
  store<u16>(ENTRIES + (entryCount << 1), n);
  entryCount++;
  store<u16>(node(n), entryCount, 20);
}

export function entryNode(i: u32): u32 {
  return load<u16>(ENTRIES + (i << 1));
}

/** Number of reverse-postorder positions. */
export function orderLength(): u32 {
  return reached;
}
export function orderAt(i: u32): u32 {
  return load<u16>(ORDER + ((nodeCount - reached + i) << 1));
}

let position: u32 = 0;

function visit(n: u32): void {
  store<u8>(MARK + n, 1);
  if (n == 0) {
    for (let i = entryCount; i > 0; i--) if (!load<u8>(MARK + entryNode(i - 1))) visit(entryNode(i - 1));
  } else {
    const t = takenOf(n);
    const f = fallOf(n);
    if (t != NONE && !load<u8>(MARK + t)) visit(t);
    if (f != NONE && !load<u8>(MARK + f)) visit(f);
  }
  position--;
  store<u16>(ORDER + (position << 1), n);
}

function intersect(a: u32, b: u32): u32 {
  while (a != b) {
    while (rpoOf(a) > rpoOf(b)) a = idomOf(a);
    while (rpoOf(b) > rpoOf(a)) b = idomOf(b);
  }
  return a;
}

function meet(n: u32, pred: u32): bool {
  const old = idomOf(n);
  const now = old == NONE ? pred : intersect(old, pred);
  if (now == old) return false;
  store<u16>(node(n), now, 18);
  return true;
}

export function dominates(a: u32, b: u32): bool {
  while (rpoOf(b) > rpoOf(a)) b = idomOf(b);
  return a == b;
}

/** Reverse postorder and immediate dominators (Cooper, Harvey, Kennedy). */
function order(): void {
  memory.fill(MARK, 0, NODE_MAX + 1);
  position = nodeCount;
  visit(0);
  reached = nodeCount - position;
  for (let i: u32 = 0; i < reached; i++) {
    const n = orderAt(i);
    store<u16>(node(n), i, 16);
    store<u16>(node(n), NONE, 18);
  }
  store<u16>(node(0), 0, 18);
  let changed = true;
  while (changed) {
    changed = false;
    for (let i: u32 = 0; i < entryCount; i++) if (meet(entryNode(i), 0)) changed = true;
    for (let i: u32 = 1; i < reached; i++) {
      const n = orderAt(i);
      if (idomOf(n) == NONE) continue;
      if (takenOf(n) != NONE && meet(takenOf(n), n)) changed = true;
      if (fallOf(n) != NONE && meet(fallOf(n), n)) changed = true;
    }
  }
}

/** An edge that goes back: through a loop header, or through the central node. */
export function retreats(from: u32, to: u32): bool {
  return rpoOf(to) <= rpoOf(from);
}

function noteEdge(from: u32, to: u32): bool {
  if (to == NONE) return false;
  if (retreats(from, to)) {
    if (!dominates(to, from)) {
      if (entryOf(to)) return false;
      makeEntry(to);
      return true;
    }
    store<u8>(node(to), 1, 23);
  } else store<u16>(node(to), load<u16>(node(to), 28) + 1, 28);
  return false;
}

/** Is a loop header that dominates n, and is not n, reached from `at`? The blocks on the way are marked. */
function meetsOuter(n: u32, at: u32): bool {
  if (at == NONE) return false;
  if (at != n && isLoop(at) && dominates(at, n)) return true;
  if (load<u8>(MARK + at)) return false;
  store<u8>(MARK + at, 1);
  return meetsOuter(n, takenOf(at)) || meetsOuter(n, fallOf(at));
}

/** Loops that are in no other one are entered at their headers: where the budget ends a region goes on there. */
function enterLoops(): bool {
  let made = false;
  for (let i: u32 = 1; i < reached; i++) {
    const n = orderAt(i);
    if (!isLoop(n) || entryOf(n)) continue;
    memory.fill(MARK, 0, NODE_MAX + 1);
    if (meetsOuter(n, n)) continue;
    makeEntry(n);
    made = true;
  }
  return made;
}

/** Orders the graph and finds loops and merge nodes; what has to go through the central node becomes an entry. */
export function analyse(): void {
  makeReducible();
  if (enterLoops()) makeReducible();
  for (let n: u32 = 1; n < nodeCount; n++) {
    store<u8>(node(n), u8(entryOf(n) != 0 || load<u16>(node(n), 28) > 1), 22);
  }
}

function makeReducible(): void {
  let again = true;
  while (again) {
    again = false;
    order();
    for (let n: u32 = 0; n < nodeCount; n++) {
      store<u16>(node(n), 0, 28);
      store<u8>(node(n), 0, 23);
    }
    for (let i: u32 = 1; i < reached; i++) {
      const n = orderAt(i);
      if (noteEdge(n, takenOf(n)) || noteEdge(n, fallOf(n))) {
        again = true;
        break;
      }
    }
  }
}
