// Branches by which generated code left its region, and where they went. When one goes to the same place again and again
// the region is made anew, with that place in it: targets of indirect branches, and code that had not run before.

// {u32 branch, u32 leaves, u64 target}: 128 sets of WAYS
const WAYS: u32 = 8;
const SEEN: u32 = 16;
const seen: usize = memory.data(16384, 8);

/** One leave of so many is looked at. A prime, so that a cycle of targets is seen whole. */
const EACH: u32 = 7;
const LIMIT: u32 = 128;
/** A region that cannot hold the place is not made anew forever. */
const PATIENCE: u32 = 16;
const TRIES: u32 = 3;

let limit: u32 = LIMIT;
let passed: u32 = 0;

/** Must follow a change of the threshold from which blocks are hot. */
export function setLeaveLimit(threshold: u32): void {
  limit = min<u32>(threshold, LIMIT);
}

function setOf(branch: u32): usize {
  return seen + ((branch * 0x9e3779b1) >>> 25) * (WAYS * SEEN);
}

/** True: the branch has gone there so often that the region should hold the place. */
export function noteLeave(branch: u32, target: u64): bool {
  if (++passed < EACH) return false;
  passed = 0;
  const set = setOf(branch);
  let least = set;
  for (let e = set; e < set + WAYS * SEEN; e += SEEN) {
    const leaves = load<u32>(e, 4);
    if (load<u32>(e) == branch && load<u64>(e, 8) == target && leaves) {
      store<u32>(e, leaves + 1, 4);
      let due = limit;
      for (let i: u32 = 0; i < TRIES; i++) {
        if (leaves + 1 == due) return true;
        due *= PATIENCE;
      }
      return false;
    }
    if (leaves < load<u32>(least, 4)) least = e;
  }
  store<u32>(least, branch);
  store<u32>(least, 1, 4);
  store<u64>(least, target, 8);
  return false;
}

/** The place of that number to which the branch went often; 0: not one, all ones: there are no more. */
export function seenTarget(branch: u32, i: u32): u64 {
  if (i == WAYS) return ~(0 as u64);
  const e = setOf(branch) + i * SEEN;
  return load<u32>(e) == branch && load<u32>(e, 4) > limit >> 3 ? load<u64>(e, 8) : 0;
}
