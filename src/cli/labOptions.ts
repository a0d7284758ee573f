import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { type Axes, DEFAULT_SCENARIO, type GuestSource, MIX_KEYS, type Scenario, SMP_VCPUS } from "../lab/index.ts";
import { checkImage } from "../machine/index.ts";
import { type OptionSpec, type ParsedArgs, parseNumber, UsageError } from "./args.ts";
import { helpRow } from "./fit.ts";
import { GUEST_OPTIONS, guestFrom } from "./guestFile.ts";
import { packageRoot } from "./packageRoot.ts";
import { hostsFrom, kernelFrom, list } from "./policyOptions.ts";

type Parse = (option: string, text: string) => unknown;

const whole: Parse = (option, text) => parseNumber(`--${option}`, text, 1e12);
const rate: Parse = (option, text) => {
  const value = /^[0-9]*\.?[0-9]+(e-?[0-9]+)?$/i.test(text) ? Number(text) : Number.NaN;
  if (!(value < 65536)) throw new UsageError(`--${option} needs numbers from 0 to 65535, not "${text}"`);
  return value;
};
const onOff: Parse = (option, text) => {
  if (text !== "on" && text !== "off") throw new UsageError(`--${option} is a list of on and off, not "${text}"`);
  return text === "on";
};
const oneOf =
  (...words: string[]): Parse =>
  (option, text) => {
    if (!words.includes(text)) throw new UsageError(`--${option} is one of ${words.join(", ")}, not "${text}"`);
    return text;
  };
const positive =
  (max: number): Parse =>
  (option, text) => {
    const value = parseNumber(`--${option}`, text, max);
    if (value === 0) throw new UsageError(`--${option} must be at least 1`);
    return value;
  };

/** Options that take a list: the part of the scenario, what an item is, and the help line. */
const AXES: Readonly<Record<string, readonly [key: keyof Scenario, parse: Parse, help: string]>> = {
  cpuids: ["cpuids", rate, "CPUIDs at CPL 3 a round"],
  faulting: ["faulting", onOff, "the guest turns CPUID faulting on: on, off"],
  exits: ["exits", rate, "exits to user space a round"],
  writes: ["writes", rate, "guest WRMSRs of 0x140 a round, each turns bit 0 over"],
  rounds: ["rounds", whole, "rounds of the guest"],
  steps: ["steps", whole, "steps of computing a round"],
  feature: ["feature", onOff, "the host CPU has CPUID faulting: on, off"],
  "tick-every": ["tickEvery", whole, "instructions between ticks of a host CPU, 0 none"],
  "preempt-every": ["preemptEvery", whole, "instructions between preemptions, 0 never"],
  "migrate-every": ["migrateEvery", whole, "preemptions between moves to the next host CPU"],
  "vmcs-switch-every": ["vmcsSwitchEvery", whole, "entries between VMCS switches (a put and a load)"],
  "race-every": ["raceEvery", whole, "guest WRMSRs between preemptions in vmx_set_msr"],
  ioctls: ["ioctls", whole, "ioctls without an entry, after each user-space exit"],
  "switch-point": ["switchPoint", oneOf("prepare", "load"), "where policies switch: prepare, load"],
  "host-value-from": [
    "hostValueFrom",
    oneOf("policy", "rdmsr", "shadow"),
    "where policies take the host's value from: as each does by default, the MSR, Linux's shadow: policy, rdmsr, shadow",
  ],
  vcpus: ["vcpus", positive(64), "vCPUs of all VMs, a VMM thread each"],
  "vcpus-per-vm": ["vcpusPerVm", positive(SMP_VCPUS), "vCPUs of a VM, which share its memory"],
  "host-cpus": ["hostCpus", positive(64), "host CPUs they share"],
};

export const AXIS_OPTIONS: Readonly<Record<string, OptionSpec>> = Object.fromEntries(
  Object.keys(AXES).map((name) => [name, { type: "string" }]),
);

const shown = (value: unknown): string => (value === true ? "on" : value === false ? "off" : String(value));

export const AXIS_HELP = Object.entries(AXES)
  .map(([name, [key, , help]]) => {
    const standard = standardAxes()[key] ?? [DEFAULT_SCENARIO[key]];
    return helpRow(`--${name} LIST`, `${help} (${standard.map(shown).join(",")})`);
  })
  .join("\n");

function standardAxes(): Record<string, readonly unknown[]> {
  return { cpuids: [0, 0.125, 0.25, 0.3, 0.5, 1] };
}

/** What to try, from the command line; what the guest does itself is fixed by a guest of the user. */
export function axesFrom(args: ParsedArgs, policies: readonly string[], own: boolean): Axes {
  const axes: Record<string, readonly unknown[]> = { ...(own ? {} : standardAxes()) };
  for (const [name, [key, parse]] of Object.entries(AXES)) {
    const text = args.strings.get(name);
    if (text === undefined) continue;
    if (own && (MIX_KEYS as readonly string[]).includes(key)) {
      throw new UsageError(`--${name} is for the laboratory's own guest; yours does what it does`);
    }
    const values = list(text).map((item) => parse(name, item));
    if (values.length === 0) throw new UsageError(`--${name} needs a list of values`);
    axes[key] = [...new Set(values)];
  }
  axes.host = hostsFrom(args, [0, 1]);
  axes.kernel = [kernelFrom(args)];
  const limit = args.strings.get("max-instructions");
  if (limit !== undefined) axes.maxInstructions = [parseNumber("--max-instructions", limit)];
  return { ...axes, policy: policies } as Axes;
}

/** The laboratory's guest, or the user's. */
export function sourceFrom(args: ParsedArgs): { readonly name: string; readonly source: GuestSource } {
  if (args.positionals.length === 0) {
    const own = Object.keys(GUEST_OPTIONS).find((name) => args.strings.has(name));
    if (own !== undefined) throw new UsageError(`--${own} is for a GUEST of yours: wasm-vmx lab GUEST --${own} ...`);
    return mixSource();
  }
  const { path, image, memory } = guestFrom(args, "lab");
  checkImage(image, memory);
  return { name: path, source: { kind: "image", image, memory } };
}

/** The laboratory's own guest. */
export function mixSource(): { readonly name: string; readonly source: GuestSource } {
  const read = (name: string): Uint8Array => {
    const path = fileURLToPath(new URL(`fixtures/lab/bin/${name}.bin`, packageRoot()));
    try {
      return new Uint8Array(readFileSync(path));
    } catch {
      throw new UsageError(`the laboratory's guest is missing: ${path}`);
    }
  };
  return { name: "mix", source: { kind: "mix", binary: read("mix"), smp: read("smp") } };
}

/** --shard i/n */
export function shardFrom(args: ParsedArgs): { readonly index: number; readonly count: number } {
  const text = args.strings.get("shard");
  if (text === undefined) return { index: 1, count: 1 };
  const match = /^([0-9]+)\/([0-9]+)$/.exec(text);
  const [index, count] = [Number(match?.[1]), Number(match?.[2])];
  if (!match || index < 1 || count < 1 || index > count) {
    throw new UsageError(`--shard needs i/n with i from 1 to n, such as 2/8, not "${text}"`);
  }
  return { index, count };
}
