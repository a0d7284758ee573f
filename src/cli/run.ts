import { setCoreDefaults } from "../core/index.ts";
import { type CpuModel, checkImage, genericModel } from "../machine/index.ts";
import { POLICIES } from "../policy/index.ts";
import { type ParsedArgs, parseNumber, suggestion, UsageError } from "./args.ts";
import { BOOT_OPTIONS, BOOT_OPTIONS_HELP, bootFrom, type DeviceProfile } from "./boot.ts";
import type { Command } from "./command.ts";
import { GUEST_OPTIONS, GUEST_OPTIONS_HELP, guestFrom } from "./guestFile.ts";
import { exitStatus, summaryJson, summaryLines } from "./outcome.ts";
import { runBare } from "./runBare.ts";
import { runVerified } from "./runVerified.ts";
import { ConsoleWriter, styler, withInterrupt } from "./terminal.ts";

const help = `\
Usage: wasm-vmx run GUEST [options]

Runs a flat binary, a static ELF32/ELF64 executable, or a Multiboot 1 or PVH
kernel. What the guest writes to
the debug console (port 0xE9) or the serial port (0x3F8) goes to stdout, a
summary to stderr.

  --bare             on the bare processor (default)
  --vmx              as a guest in VMX non-root operation, under KVM's paths
  --policy POLICY    what KVM does with MSR 0x140 at a switch (implies --vmx):
                     upstream (default), clear-host, always-hardware,
                     host-nonzero, clear-all
${GUEST_OPTIONS_HELP}
${BOOT_OPTIONS_HELP}
  --cpu MODEL        generic (default), or vmx: a hypervisor can run (bare)
  --no-jit           interpreter only; the results are the same
  --verify-jit       runs interpreter and generated code in lock-step and reports
                     the first difference, or that there is none
  --max-instructions N
                     stop after exactly N instructions
  --trace            a line on stderr for each port access, CPUID and MSR access
                     (bare) or each VM exit (VMX)
  --json             one JSON object on stdout instead of console and summary
  --help             this text

Numbers are decimal or 0x hexadecimal; sizes take K, M or G.

Exit status: what the guest wrote to port 0xF4 (low 8 bits), 0 when it halted,
  switched the machine off or reset it,
  1 guest crashed (triple fault)   2 bad input
  70 internal error, or --verify-jit found one
  124 --max-instructions reached   130 interrupted (Ctrl-C)

Examples:
  wasm-vmx run boot.bin
  wasm-vmx run kernel --append "NR_CPUS=1" --module initrd.img --memory 64M
  wasm-vmx run kernel.elf --memory 64M --max-instructions 1000000
  wasm-vmx run guest.bin --mode long --policy always-hardware --json`;

/** CPU models by the name that --cpu takes. */
export const MODELS: Readonly<Record<string, (apic: boolean) => CpuModel>> = {
  generic: (apic) => genericModel({ apic }),
  vmx: (apic) => genericModel({ vmx: true, apic }),
};

/** apic: the machine has a local APIC for the model. */
export function modelFrom(name: string | undefined, apic = false): CpuModel | undefined {
  if (name === undefined) return undefined;
  const make = Object.hasOwn(MODELS, name) ? MODELS[name] : undefined;
  if (make) return make(apic);
  const names = Object.keys(MODELS);
  throw new UsageError(`unknown CPU model "${name}": ${names.join(", ")}${suggestion(name, names)}`);
}

/** Where the guest runs: under VMX when there is a policy. */
function worldFrom(args: ParsedArgs, devices: DeviceProfile): { readonly cpu?: CpuModel; readonly policy?: string } {
  const policy = args.strings.get("policy");
  if (args.flags.has("bare") && (args.flags.has("vmx") || policy !== undefined)) {
    throw new UsageError("--bare excludes --vmx and --policy");
  }
  const cpu = modelFrom(args.strings.get("cpu"), devices === "pc");
  if (!args.flags.has("vmx") && policy === undefined) return cpu ? { cpu } : {};
  if (args.strings.get("devices") === "pc") {
    throw new UsageError(
      "--devices pc is for --bare: they keep the bare processor's time. Under --vmx the guest has a console, a serial " +
        "port and the exit port; interrupt controllers and timers there are KVM's own, for programs (docs/machine.md)",
    );
  }
  if (cpu) throw new UsageError("--cpu is for --bare: KVM gives its guests their own CPUID");
  const names = POLICIES.map(({ name }) => name);
  const name = policy ?? "upstream";
  if (!names.includes(name)) {
    throw new UsageError(`unknown policy "${name}"${suggestion(name, names)}; there are ${names.join(", ")}`);
  }
  return { policy: name };
}

export const runCommand: Command = {
  summary: "run a guest binary, bare or under VMX",
  help,
  options: {
    ...GUEST_OPTIONS,
    ...BOOT_OPTIONS,
    bare: { type: "boolean" },
    vmx: { type: "boolean" },
    policy: { type: "string", values: POLICIES.map(({ name }) => name) },
    cpu: { type: "string", values: Object.keys(MODELS) },
    "max-instructions": { type: "string" },
    trace: { type: "boolean" },
    json: { type: "boolean" },
    "no-jit": { type: "boolean" },
    "verify-jit": { type: "boolean" },
  },
  async run(args) {
    const { path, image, memory } = guestFrom(args, "run");
    checkImage(image, memory);
    const { boot, devices } = bootFrom(args, path, image);
    const limit = args.strings.get("max-instructions");
    const maxInstructions = limit === undefined ? undefined : parseNumber("--max-instructions", limit);
    const json = args.flags.has("json");
    if (args.flags.has("no-jit")) setCoreDefaults({ jit: { threshold: 0 } });
    const guestConsole = json ? new ConsoleWriter() : new ConsoleWriter(process.stdout);
    const { cpu, policy } = worldFrom(args, devices);
    if (args.flags.has("verify-jit")) {
      for (const other of ["no-jit", "trace"]) {
        if (args.flags.has(other)) throw new UsageError(`--verify-jit excludes --${other}`);
      }
      return runVerified({ image, memory, boot, devices, maxInstructions, json, cpu, policy });
    }
    const trace = args.flags.has("trace") ? (line: string) => process.stderr.write(`${line}\n`) : undefined;

    const start = performance.now();
    const outcome = await withInterrupt(async (signal) => {
      const options = { image, memory, boot, devices, maxInstructions, signal, console: guestConsole.put, trace };
      if (policy === undefined) return runBare({ ...options, cpu });
      const { runVmx } = await import("./runVmx.ts");
      return runVmx({ ...options, policy });
    });
    const seconds = (performance.now() - start) / 1000;
    guestConsole.flush();
    if (json) {
      process.stdout.write(`${summaryJson(outcome, seconds, guestConsole.text)}\n`);
    } else {
      const style = styler(process.stderr);
      const [first, ...rest] = summaryLines(outcome, seconds);
      process.stderr.write(`${style("bold", first!)}\n${rest.map((line) => `${style("dim", line)}\n`).join("")}`);
    }
    return exitStatus(outcome.ending);
  },
};
