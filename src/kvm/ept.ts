import type { Core } from "../core/index.ts";
import type { HostPages } from "./host-pages.ts";

// EPT entry: 0 R  1 W  2 X  5:3 memory type (leaf)  7 leaf (PDE)  51:12 address. @sdm 3C "EPT Translation Mechanism"
export const EPT_READ = 1n;
export const EPT_WRITE = 2n;
export const EPT_EXEC = 4n;
export const EPT_RWX = 7n;
const WRITE_BACK = 6n << 3n;
const LEAF = 0x80n;
const ADDRESS = 0x000f_ffff_ffff_f000n;
/** EPTP: write-back, 4 levels. */
const EPTP_FLAGS = 6n | (3n << 3n);
const PT_LEVEL = 0;
const PD_LEVEL = 1;

/** The EPT tables of one VM, filled as the guest touches its memory. */
export class EptTables {
  private readonly root: bigint;

  constructor(
    private readonly core: Core,
    private readonly pages: HostPages,
  ) {
    this.root = pages.alloc();
  }

  /** Value of the EPT_POINTER field. */
  get eptp(): bigint {
    return this.root | EPTP_FLAGS;
  }

  /** Maps one 4 KiB or 2 MiB page with the given rights. */
  map(gpa: bigint, hpa: bigint, rights: bigint, large: boolean): void {
    const leafLevel = large ? PD_LEVEL : PT_LEVEL;
    let table = this.root;
    for (let level = 3; level > leafLevel; level--) {
      const slot = this.slot(table, gpa, level);
      let entry = this.read(slot);
      if ((entry & EPT_RWX) === 0n || (entry & LEAF) !== 0n) {
        entry = this.pages.alloc() | EPT_RWX;
        this.write(slot, entry);
      }
      table = entry & ADDRESS;
    }
    this.write(this.slot(table, gpa, leafLevel), hpa | rights | WRITE_BACK | (large ? LEAF : 0n));
  }

  /** The leaf entry that maps `gpa`, 0 when none does. */
  lookup(gpa: bigint): bigint {
    let table = this.root;
    for (let level = 3; ; level--) {
      const entry = this.read(this.slot(table, gpa, level));
      if ((entry & EPT_RWX) === 0n) return 0n;
      if (level === PT_LEVEL || (entry & LEAF) !== 0n) return entry;
      table = entry & ADDRESS;
    }
  }

  /** Takes the right to write from the leaf that maps `gpa`; the caller executes INVEPT. @kvm kvm_mmu_write_protect */
  writeProtect(gpa: bigint): void {
    let table = this.root;
    for (let level = 3; ; level--) {
      const slot = this.slot(table, gpa, level);
      const entry = this.read(slot);
      if ((entry & EPT_RWX) === 0n) return;
      if (level === PT_LEVEL || (entry & LEAF) !== 0n) {
        if (entry & EPT_WRITE) this.write(slot, entry & ~EPT_WRITE);
        return;
      }
      table = entry & ADDRESS;
    }
  }

  /** Removes every mapping; the caller executes INVEPT. @kvm kvm_mmu_zap_all */
  zapAll(): void {
    this.zapTable(this.root, 3);
  }

  private zapTable(table: bigint, level: number): void {
    for (let index = 0n; index < 512n; index++) {
      const slot = table + index * 8n;
      const entry = this.read(slot);
      if ((entry & EPT_RWX) === 0n) continue;
      if (level > PT_LEVEL && (entry & LEAF) === 0n) {
        this.zapTable(entry & ADDRESS, level - 1);
        this.pages.release(entry & ADDRESS);
      }
      this.write(slot, 0n);
    }
  }

  private slot(table: bigint, gpa: bigint, level: number): bigint {
    return table + ((gpa >> BigInt(12 + 9 * level)) & 511n) * 8n;
  }

  private read(slot: bigint): bigint {
    return this.core.read64(this.core.physToHost(slot));
  }

  private write(slot: bigint, entry: bigint): void {
    const host = this.core.physToHost(slot);
    this.core.write64(host, entry);
    this.core.exports.noteHostWrite(host, 8);
  }
}
