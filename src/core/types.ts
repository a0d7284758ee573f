/** A segment register with its hidden part. `attributes` has the VMCS access-rights format. */
export interface SegmentRegister {
  selector: number;
  base: bigint;
  /** In bytes, after granularity. */
  limit: number;
  /** type 3:0, S 4, DPL 6:5, P 7, AVL 12, L 13, D/B 14, G 15, unusable 16 */
  attributes: number;
}

export interface CpuidResult {
  eax: number;
  ebx: number;
  ecx: number;
  edx: number;
}

export type CodeMode = 16 | 32 | 64;
