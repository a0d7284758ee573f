// What generated code reads of the entry of its region.
/** u64: COUNT when the region was entered. */
export const entryStart: usize = memory.data(8, 8);
