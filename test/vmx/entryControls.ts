// Rows 1-44: basic checks and VMX controls.
import * as controls from "../../assembly/abi/controls.ts";
import { COUNT, CPL, INTERRUPTIBILITY, SEG_CS, SEGS, SG_ATTR, SHADOW_COUNT } from "../../assembly/abi/state.ts";
import { hostInit } from "../../src/core/hostInit.ts";
import {
  addresses,
  both,
  EPT,
  EPTP,
  ERROR_CODE,
  EXIT,
  ept,
  inject,
  LONG,
  list,
  msrList,
  one,
  PIN,
  PRIMARY,
  type RowTest,
  reserved,
  SECOND,
  UNRESTRICTED,
  u32,
  vpid,
  WIDE,
} from "./entryTools.ts";
import { type Fields, realGuest } from "./guests.ts";

const TIMER = u32(controls.PIN_ACTIVATE_VMX_PREEMPTION_TIMER);
const SAVE_TIMER = u32(controls.EXIT_SAVE_VMX_PREEMPTION_TIMER_VALUE);

const PML = u32(controls.SECONDARY_ENABLE_PML);
const FUNCTIONS = u32(controls.SECONDARY_ENABLE_VM_FUNCTIONS);
const functions: Fields = { ...ept(), SECONDARY_PROC_BASED_CONTROLS: EPT | FUNCTIONS };
const shadowing: Fields = {
  PRIMARY_PROC_BASED_CONTROLS: SECOND,
  SECONDARY_PROC_BASED_CONTROLS: u32(controls.SECONDARY_VMCS_SHADOWING),
};

export const controlsRows: Readonly<Record<number, RowTest>> = {
  1: {
    bad: [
      {
        title: "compatibility mode",
        before: (vmx) => {
          vmx.write32(SEGS + SEG_CS + SG_ATTR, 0xc09b);
          vmx.core.stateChanged();
        },
      },
    ],
  },
  3: {
    bad: [
      {
        title: "CPL 3",
        before: (vmx) => {
          vmx.write32(CPL, 3);
          vmx.core.stateChanged();
        },
      },
    ],
  },
  4: { bad: [{ title: "no current VMCS", before: (vmx) => void vmx.core.vmclear(vmx.vmcs) }] },
  5: {
    bad: [
      {
        title: "shadow VMCS",
        before: (vmx) => {
          vmx.formatRegion(0x9000n, vmx.revision | 0x80000000);
          vmx.select(0x9000n);
        },
      },
    ],
  },
  6: {
    bad: [
      {
        title: "blocking by MOV SS",
        before: (vmx) => {
          vmx.write32(INTERRUPTIBILITY, 2);
          vmx.write64(SHADOW_COUNT, vmx.read64(COUNT));
        },
      },
    ],
    good: [{ title: "blocking by NMI", before: (vmx) => vmx.write32(INTERRUPTIBILITY, 8) }],
  },
  7: {
    bad: [
      {
        title: "launched",
        before: (vmx) => {
          vmx.core.vmlaunch();
          hostInit(vmx.core, vmx.vmxon);
          vmx.core.vmptrld(vmx.vmcs);
        },
      },
    ],
  },
  8: { bad: [{ title: "clear", resume: true }] },
  9: reserved("PIN_BASED_CONTROLS", PIN, 0x10n, 0x100n),
  10: reserved("PRIMARY_PROC_BASED_CONTROLS", PRIMARY, 0x2n, 0x40000n),
  11: {
    bad: [one("SPP is not built", { PRIMARY_PROC_BASED_CONTROLS: SECOND, SECONDARY_PROC_BASED_CONTROLS: 0x800000n })],
    good: [one("field ignored when not activated", { SECONDARY_PROC_BASED_CONTROLS: 0xffffffffn })],
  },
  12: {
    bad: [one("5 targets", { CR3_TARGET_COUNT: 5n }), one("2^31 targets", { CR3_TARGET_COUNT: 0x80000000n })],
    good: [one("4 targets", { CR3_TARGET_COUNT: 4n })],
  },
  13: both(
    ...["IO_BITMAP_A_ADDRESS", "IO_BITMAP_B_ADDRESS"].map((name) =>
      addresses(name, 0x10000n, 0x1000n, {
        PRIMARY_PROC_BASED_CONTROLS: PRIMARY | u32(controls.PRIMARY_USE_I_O_BITMAPS),
      }),
    ),
    { bad: [], good: [one("not used", { IO_BITMAP_A_ADDRESS: 1n })] },
  ),
  14: both(
    addresses("MSR_BITMAP_ADDRESS", 0x10000n, 0x1000n, {
      PRIMARY_PROC_BASED_CONTROLS: PRIMARY | u32(controls.PRIMARY_USE_MSR_BITMAPS),
    }),
    { bad: [], good: [one("not used", { MSR_BITMAP_ADDRESS: 1n })] },
  ),
  18: {
    bad: [one("virtual NMIs alone", { PIN_BASED_CONTROLS: PIN | u32(controls.PIN_VIRTUAL_NMIS) })],
    good: [
      one("with NMI exiting", { PIN_BASED_CONTROLS: PIN | u32(controls.PIN_VIRTUAL_NMIS, controls.PIN_NMI_EXITING) }),
    ],
  },
  19: {
    bad: [
      one("NMI window without virtual NMIs", {
        PIN_BASED_CONTROLS: PIN | u32(controls.PIN_NMI_EXITING),
        PRIMARY_PROC_BASED_CONTROLS: PRIMARY | u32(controls.PRIMARY_NMI_WINDOW_EXITING),
      }),
    ],
    good: [
      one("with virtual NMIs", {
        PIN_BASED_CONTROLS: PIN | u32(controls.PIN_VIRTUAL_NMIS, controls.PIN_NMI_EXITING),
        PRIMARY_PROC_BASED_CONTROLS: PRIMARY | u32(controls.PRIMARY_NMI_WINDOW_EXITING),
      }),
    ],
  },
  25: {
    bad: [one("VPID 0", { ...vpid(), VPID: 0n })],
    good: [one("VPID FFFFH", { ...vpid(), VPID: 0xffffn })],
  },
  26: {
    bad: [
      one("memory type 1", { ...ept(), EPT_POINTER: 0x5019n }),
      one("2 levels", { ...ept(), EPT_POINTER: 0x500en }),
      one("5 levels", { ...ept(), EPT_POINTER: 0x5026n }),
      one("bit 7", { ...ept(), EPT_POINTER: 0x509en }),
      one("bit 11", { ...ept(), EPT_POINTER: 0x581en }),
      one("too wide", { ...ept(), EPT_POINTER: EPTP + WIDE }),
    ],
    good: [
      one("uncacheable", { ...ept(), EPT_POINTER: 0x5018n }),
      one("write-back", { ...ept(), EPT_POINTER: EPTP }),
      one("accessed and dirty flags", { ...ept(), EPT_POINTER: 0x505en }),
    ],
  },
  27: both(addresses("PML_ADDRESS", 0x10000n, 0x1000n, { ...ept(), SECONDARY_PROC_BASED_CONTROLS: EPT | PML }), {
    bad: [one("without EPT", { PRIMARY_PROC_BASED_CONTROLS: SECOND, SECONDARY_PROC_BASED_CONTROLS: PML })],
  }),
  29: both(addresses("EPTP_LIST_ADDRESS", 0x10000n, 0x1000n, { ...functions, VM_FUNCTION_CONTROLS: 1n }), {
    bad: [
      one("reserved bit", { ...functions, VM_FUNCTION_CONTROLS: 2n }),
      one("bit 63", { ...functions, VM_FUNCTION_CONTROLS: 1n << 63n }),
      one("EPTP switching without EPT", {
        ...functions,
        SECONDARY_PROC_BASED_CONTROLS: FUNCTIONS,
        VM_FUNCTION_CONTROLS: 1n,
      }),
    ],
    good: [
      one("no function, list ignored", { ...functions, EPTP_LIST_ADDRESS: 1n }),
      one("no VM functions, field ignored", { ...ept(), VM_FUNCTION_CONTROLS: ~0n & (2n ** 64n - 1n) }),
    ],
  }),
  30: both(
    addresses("VMREAD_BITMAP_ADDRESS", 0x10000n, 0x1000n, shadowing),
    addresses("VMWRITE_BITMAP_ADDRESS", 0x10000n, 0x1000n, shadowing),
    { bad: [], good: [one("not used", { VMREAD_BITMAP_ADDRESS: 1n, VMWRITE_BITMAP_ADDRESS: 1n })] },
  ),
  28: {
    bad: [one("without EPT", { PRIMARY_PROC_BASED_CONTROLS: SECOND, SECONDARY_PROC_BASED_CONTROLS: UNRESTRICTED })],
    good: [one("with EPT", { ...ept(), SECONDARY_PROC_BASED_CONTROLS: EPT | UNRESTRICTED })],
  },
  32: reserved("PRIMARY_EXIT_CONTROLS", EXIT, 0x1n, 0x400000n),
  33: {
    bad: [one("timer off", { PRIMARY_EXIT_CONTROLS: EXIT | SAVE_TIMER })],
    good: [one("timer on", { PRIMARY_EXIT_CONTROLS: EXIT | SAVE_TIMER, PIN_BASED_CONTROLS: PIN | TIMER })],
  },
  34: msrList("EXIT_MSR_STORE"),
  35: msrList("EXIT_MSR_LOAD"),
  36: reserved("ENTRY_CONTROLS", LONG, 0x1n, 0x2000n),
  37: { bad: [one("type 1", inject(1, 0x20))], good: [one("type 7", inject(7, 0))] },
  38: {
    bad: [
      one("NMI with vector 3", inject(2, 3)),
      one("exception with vector 32", inject(3, 32)),
      one("type 7 with vector 1", inject(7, 1)),
    ],
    good: [one("NMI with vector 2", inject(2, 2)), one("exception with vector 31", inject(3, 31))],
  },
  39: {
    bad: [
      one("#GP without", inject(3, 13)),
      one("#UD with", inject(3, 6, ERROR_CODE)),
      one("software interrupt with", inject(4, 13, ERROR_CODE)),
      { title: "unrestricted real mode with", base: realGuest, set: inject(3, 13, ERROR_CODE) },
    ],
    good: [
      ...[8, 10, 11, 12, 13, 14, 17].map((vector) => one(`vector ${vector} with`, inject(3, vector, ERROR_CODE))),
      ...[0, 1, 3, 4, 5, 6, 7, 9, 15, 16, 18, 19].map((vector) => one(`vector ${vector} without`, inject(3, vector))),
      { title: "unrestricted real mode without", base: realGuest, set: inject(3, 13) },
    ],
  },
  40: { bad: [one("bit 12", inject(3, 6, 0x1000n)), one("bit 30", inject(3, 6, 0x40000000n))] },
  41: {
    bad: [one("bit 16", { ...inject(3, 13, ERROR_CODE), ENTRY_EXCEPTION_ERROR_CODE: 0x10000n })],
    good: [
      one("bit 15", { ...inject(3, 13, ERROR_CODE), ENTRY_EXCEPTION_ERROR_CODE: 0xffffn }),
      one("not delivered", { ...inject(3, 6), ENTRY_EXCEPTION_ERROR_CODE: 0xffffffffn }),
    ],
  },
  42: {
    bad: [4, 5, 6].map((type) => one(`type ${type}, 16`, { ...inject(type, 3), ENTRY_INSTRUCTION_LENGTH: 16n })),
    good: [
      ...[0n, 1n, 15n].map((length) => one(`length ${length}`, { ...inject(4, 3), ENTRY_INSTRUCTION_LENGTH: length })),
      one("hardware exception, ignored", { ...inject(3, 3), ENTRY_INSTRUCTION_LENGTH: 16n }),
    ],
  },
  43: {
    bad: msrList("ENTRY_MSR_LOAD").bad,
    good: [
      { title: "aligned, loadable entry", ...list(0xc0000102n, 0n) },
      one("no entry, address ignored", { ENTRY_MSR_LOAD_ADDRESS: 1n }),
    ],
  },
  113: {
    bad: [
      one("without EPT", {
        PRIMARY_PROC_BASED_CONTROLS: SECOND,
        SECONDARY_PROC_BASED_CONTROLS: u32(controls.SECONDARY_MODE_BASED_EXECUTE_CONTROL_FOR_EPT),
      }),
    ],
    good: [
      one("with EPT", {
        ...ept(),
        SECONDARY_PROC_BASED_CONTROLS: EPT | u32(controls.SECONDARY_MODE_BASED_EXECUTE_CONTROL_FOR_EPT),
      }),
    ],
  },
  44: {
    bad: [
      one("entry to SMM", { ENTRY_CONTROLS: LONG | u32(controls.ENTRY_ENTRY_TO_SMM) }),
      one("deactivate", { ENTRY_CONTROLS: LONG | u32(controls.ENTRY_DEACTIVATE_DUAL_MONITOR_TREATMENT) }),
    ],
  },
};
