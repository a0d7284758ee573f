// Rows 15-17 and 20-24: the controls of APIC virtualization.
import * as controls from "../../assembly/abi/controls.ts";
import { addresses, both, EXIT, one, PIN, PRIMARY, type RowTest, SECOND, u32 } from "./entryTools.ts";
import type { Fields } from "./guests.ts";
import type { Vmx } from "./harness.ts";

/** A page of zeros. */
const PAGE = 0x9000n;
const TPR = 0x80n;
const SHADOW = u32(controls.PRIMARY_USE_TPR_SHADOW);
const ACCESSES = u32(controls.SECONDARY_VIRTUALIZE_APIC_ACCESSES);
const X2APIC = u32(controls.SECONDARY_VIRTUALIZE_X2APIC_MODE);
const REGISTERS = u32(controls.SECONDARY_APIC_REGISTER_VIRTUALIZATION);
const DELIVERY = u32(controls.SECONDARY_VIRTUAL_INTERRUPT_DELIVERY);
const EXTERNAL = u32(controls.PIN_EXTERNAL_INTERRUPT_EXITING);
const POSTED = u32(controls.PIN_PROCESS_POSTED_INTERRUPTS);

const shadow: Fields = { PRIMARY_PROC_BASED_CONTROLS: PRIMARY | SHADOW, VIRTUAL_APIC_ADDRESS: PAGE, TPR_THRESHOLD: 0n };
const secondary = (bits: bigint): Fields => ({
  ...shadow,
  PRIMARY_PROC_BASED_CONTROLS: SECOND | SHADOW,
  SECONDARY_PROC_BASED_CONTROLS: bits,
  APIC_ACCESS_ADDRESS: 0xa000n,
});
const delivery: Fields = { ...secondary(DELIVERY), PIN_BASED_CONTROLS: PIN | EXTERNAL };
const posted: Fields = {
  ...delivery,
  PIN_BASED_CONTROLS: PIN | EXTERNAL | POSTED,
  PRIMARY_EXIT_CONTROLS: EXIT | u32(controls.EXIT_ACKNOWLEDGE_INTERRUPT_ON_EXIT),
  POSTED_INTERRUPT_NOTIFICATION_VECTOR: 0xf2n,
  POSTED_INTERRUPT_DESCRIPTOR_ADDRESS: 0x9040n,
};
const tpr = (value: bigint) => (vmx: Vmx) => vmx.poke64(PAGE + TPR, value);

export const apicRows: Readonly<Record<number, RowTest>> = {
  15: both(addresses("VIRTUAL_APIC_ADDRESS", PAGE, 0x1000n, shadow), {
    bad: [],
    good: [one("not used", { VIRTUAL_APIC_ADDRESS: 1n })],
  }),
  16: {
    bad: [4n, 31n].map((n) => ({ ...one(`bit ${n}`, { ...shadow, TPR_THRESHOLD: 1n << n }), before: tpr(0xf0n) })),
    good: [
      one("with virtual-interrupt delivery", { ...delivery, TPR_THRESHOLD: 0x10n }),
      one("without TPR shadow", { TPR_THRESHOLD: 0x10n }),
    ],
  },
  17: {
    bad: [
      one("1 above VTPR 0", { ...shadow, TPR_THRESHOLD: 1n }),
      { ...one("8 above VTPR 7FH", { ...shadow, TPR_THRESHOLD: 8n }), before: tpr(0xffffff7fn) },
    ],
    good: [
      { ...one("8 with VTPR 80H", { ...shadow, TPR_THRESHOLD: 8n }), before: tpr(0x80n) },
      one("with virtualize APIC accesses", { ...secondary(ACCESSES), TPR_THRESHOLD: 1n }),
      one("with virtual-interrupt delivery", { ...delivery, TPR_THRESHOLD: 1n }),
    ],
  },
  20: both(
    ...[0xa000n].map((at) =>
      addresses("APIC_ACCESS_ADDRESS", at, 0x1000n, {
        PRIMARY_PROC_BASED_CONTROLS: SECOND,
        SECONDARY_PROC_BASED_CONTROLS: ACCESSES,
      }),
    ),
  ),
  21: {
    bad: [X2APIC, REGISTERS, DELIVERY].map((bits) =>
      one(`secondary ${bits.toString(16)} alone`, {
        PIN_BASED_CONTROLS: PIN | EXTERNAL,
        PRIMARY_PROC_BASED_CONTROLS: SECOND,
        SECONDARY_PROC_BASED_CONTROLS: bits,
      }),
    ),
    good: [
      one("all three with TPR shadow", { ...delivery, SECONDARY_PROC_BASED_CONTROLS: X2APIC | REGISTERS | DELIVERY }),
    ],
  },
  22: {
    bad: [one("both", secondary(ACCESSES | X2APIC))],
    good: [one("x2APIC mode", secondary(X2APIC)), one("APIC accesses", secondary(ACCESSES))],
  },
  23: { bad: [one("external interrupts do not exit", secondary(DELIVERY))], good: [one("they do", delivery)] },
  24: both(addresses("POSTED_INTERRUPT_DESCRIPTOR_ADDRESS", 0x9040n, 64n, posted), {
    bad: [
      one("without virtual-interrupt delivery", { ...posted, SECONDARY_PROC_BASED_CONTROLS: 0n }),
      one("without acknowledge on exit", { ...posted, PRIMARY_EXIT_CONTROLS: EXIT }),
      one("vector 256", { ...posted, POSTED_INTERRUPT_NOTIFICATION_VECTOR: 0x100n }),
    ],
  }),
};
