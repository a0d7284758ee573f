// What `monitor` tells of the VMX of a bare guest: its current VMCS, its exits and entries.
import * as reasons from "../../assembly/abi/exits.ts";
import { VMCS_GUEST_RIP } from "../../assembly/abi/vmcs.ts";
import type { Machine } from "../machine/index.ts";
import { type MonitorCommand, MonitorError } from "./target.ts";
import { vmcsNames } from "./vmcsNames.generated.ts";

const HISTORY = 1000;
const ENTRY_FAILURE = 0x8000_0000;

/** By bits 11:10 of an encoding. @sdm 3C "Encoding of VMCS Fields" */
const SECTIONS = ["Control State", "Exit Information", "Guest State", "Host State"];
const ORDER = [2, 3, 0, 1];
/** Digits by bits 14:13: 16, 64, 32, natural. */
const DIGITS = [4, 16, 8, 16];

const FIELDS = vmcsNames
  .trim()
  .split("\n")
  .map((line) => line.split(" "))
  .map(([name, encoding]) => ({ name: name!, encoding: Number(encoding) }));
const REASONS = new Map(
  Object.entries(reasons).flatMap(([name, number]) =>
    name.startsWith("REASON_") ? [[number as number, name.replace("REASON_", "")]] : [],
  ),
);

const hex = (value: bigint | number, digits = 0): string => `0x${value.toString(16).padStart(digits, "0")}`;

function vmcs({ vmx }: Machine, word: string | undefined): string {
  const { currentVmcs, operation } = vmx;
  if (currentVmcs === undefined) {
    const why = operation === "off" ? "the guest is not in VMX operation" : "the guest has no current VMCS";
    throw new MonitorError(`${why}, so there is no VMCS to show`);
  }
  const lines = [`VMCS at ${hex(currentVmcs)}, VMX ${operation === "root" ? "root" : "non-root"} operation`];
  for (const section of ORDER) {
    lines.push(`*** ${SECTIONS[section]} ***`);
    for (const { name, encoding } of FIELDS) {
      if (((encoding >> 10) & 3) !== section) continue;
      const value = vmx.readField(encoding);
      if (value !== undefined) lines.push(`${name} = ${hex(value, DIGITS[(encoding >> 13) & 3])}`);
    }
  }
  if (word === undefined) return lines.join("\n");
  const found = lines.filter((line) => line.toLowerCase().includes(word.toLowerCase()));
  if (found.length === 0) throw new MonitorError(`no line has "${word}"`);
  return found.join("\n");
}

/** Commands for a machine; it remembers the last exits and entries from now on. */
export function vmxCommands(machine: Machine): readonly MonitorCommand[] {
  const history: string[] = [];
  const remember = (text: string): void => {
    history.push(`${String(machine.instructionCount).padStart(10)} ${text}`);
    if (history.length > HISTORY) history.shift();
  };
  machine.onVmExit(({ reason, qualification }) => {
    const name = REASONS.get(reason & 0xffff) ?? `reason ${reason & 0xffff}`;
    const failed = (reason & ENTRY_FAILURE) !== 0 ? " (VM entry failed)" : "";
    const { rip } = machine.registers;
    remember(`exit  ${name}${failed} rip ${hex(rip)} qualification ${hex(qualification)}`);
  });
  machine.onVmEntry(({ launch }) => {
    const rip = machine.vmx.readField(VMCS_GUEST_RIP);
    remember(`entry ${launch ? "VMLAUNCH" : "VMRESUME"}${rip === undefined ? "" : ` to rip ${hex(rip)}`}`);
  });
  return [
    {
      name: "vmcs",
      usage: "vmcs [WORD]",
      summary: "the guest's current VMCS, or its lines with a word",
      run: ([word]) => vmcs(machine, word),
    },
    {
      name: "exits",
      usage: "exits [COUNT]",
      summary: `the guest's last VM exits and entries, by instruction count (20, at most ${HISTORY}); not while a recording is played`,
      run: ([count = "20"]) => {
        if (!/^[1-9][0-9]{0,3}$/.test(count)) throw new MonitorError(`a count from 1 to ${HISTORY}, not ${count}`);
        const last = history.slice(-Number(count));
        return last.length === 0 ? "nothing yet" : last.join("\n");
      },
    },
  ];
}
