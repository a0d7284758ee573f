import { type GdbArchitecture, type GdbTarget, MachineTarget } from "../gdb/index.ts";
import { checkImage } from "../machine/index.ts";
import { POLICIES } from "../policy/index.ts";
import { type ParsedArgs, parseNumber, suggestion, UsageError } from "./args.ts";
import { type Command, ExitStatus } from "./command.ts";
import { type ListenAddress, logPacket, serveGdb } from "./gdbServer.ts";
import { type VmxGuestOptions, vmxTarget } from "./gdbVmx.ts";
import { GUEST_OPTIONS, GUEST_OPTIONS_HELP, guestFrom } from "./guestFile.ts";
import { MODELS, modelFrom } from "./run.ts";
import { bareMachine } from "./runBare.ts";
import { ConsoleWriter, withInterrupt } from "./terminal.ts";
import { policyFrom } from "./trace.ts";

const help = `\
Usage: wasm-vmx gdb GUEST [options]

Loads a guest and waits for GDB. The guest stands at its first instruction when
GDB connects. Its console goes to stdout; port 0xF4 ends it.

  --listen [HOST:]PORT
                     where to listen (default 127.0.0.1:1234; port 0: any free
                     one). GDB's protocol has no password: whoever reaches the
                     port controls the guest
  --arch ARCH        registers and disassembly that GDB is told of: i8086, i386
                     or i386:x86-64 (default: by the code that runs when GDB
                     connects)
  --vmx              as a guest in VMX non-root operation, under KVM's paths: vCPUs
                     are threads, monitor vmcs and monitor exits look at KVM
  --policy POLICY    what KVM does with MSR 0x140 at a switch (implies --vmx)
  --vcpus N          vCPUs under VMX (default 1, at most 16): all start at the
                     entry, EBX says which, 4 KiB of stack between them
  --no-record        no recording: reverse-step and reverse-continue are off, and
                     a bare guest runs a bit faster
  --log              packets on stderr
${GUEST_OPTIONS_HELP}
  --cpu MODEL        generic (default), or vmx: a hypervisor can run (bare)
  --help             this text

GDB's addresses are linear. Its $pc is too: CS base + IP in 16-bit code; $sp
and the other registers are as the processor has them. Beyond GDB's own there
are control, debug and descriptor-table registers (info registers system) and
MSRs (info registers msr). In GDB, monitor help lists more commands.

When GDB detaches, the guest runs on alone; when the connection is lost it
stands still until the next one; kill ends it.

Exit status: what the guest wrote to port 0xF4 (low 8 bits), 0 when it halted
  or GDB killed it, 1 guest crashed, 2 bad input, 130 interrupted (Ctrl-C)

Examples:
  wasm-vmx gdb boot.bin
  gdb -ex 'target remote :1234'
  wasm-vmx gdb kernel.elf --listen 4000
  gdb kernel.elf -ex 'target remote :4000' -ex 'break main' -ex continue
  wasm-vmx gdb smp.bin --mode long --vmx --vcpus 2`;

const ARCHITECTURES: readonly GdbArchitecture[] = ["i8086", "i386", "i386:x86-64"];

function architectureFrom(args: ParsedArgs): GdbArchitecture | undefined {
  const text = args.strings.get("arch");
  if (text === undefined) return undefined;
  const known = ARCHITECTURES.find((name) => name === text);
  if (known === undefined) {
    throw new UsageError(
      `unknown architecture "${text}"${suggestion(text, ARCHITECTURES)}; there are ${ARCHITECTURES.join(", ")}`,
    );
  }
  return known;
}

/** [HOST:]PORT, with an IPv6 host in brackets. */
export function listenAddress(text: string): ListenAddress {
  const match = /^(?:(?:\[([0-9a-f:]+)\]|([^:[\]]+))?:)?([0-9]{1,5})$/i.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port > 65535) {
    throw new UsageError(`--listen needs [HOST:]PORT, such as 1234 or 127.0.0.1:1234, not "${text}"`);
  }
  return { host: match[1] ?? match[2] ?? "127.0.0.1", port };
}

const MAX_VCPUS = 16;

function targetFrom(args: ParsedArgs, guest: Omit<VmxGuestOptions, "policy" | "vcpus" | "record">): GdbTarget {
  const policy = policyFrom(args);
  const count = args.strings.get("vcpus");
  const cpu = modelFrom(args.strings.get("cpu"));
  const record = !args.flags.has("no-record");
  if (args.flags.has("vmx") || policy !== undefined) {
    if (cpu) throw new UsageError("--cpu is for bare guests: KVM gives its guests their own CPUID");
    const vcpus = count === undefined ? 1 : parseNumber("--vcpus", count, MAX_VCPUS);
    if (vcpus === 0) throw new UsageError("--vcpus must be at least 1");
    return vmxTarget({ ...guest, policy, vcpus, record });
  }
  if (count !== undefined) throw new UsageError("--vcpus is for --vmx: a bare machine has one processor");
  const { machine, status } = bareMachine({ ...guest, cpu });
  return new MachineTarget(machine, { status, record });
}

export const gdbCommand: Command = {
  summary: "debug a guest with GDB",
  help,
  options: {
    ...GUEST_OPTIONS,
    listen: { type: "string" },
    arch: { type: "string", values: ARCHITECTURES },
    vmx: { type: "boolean" },
    policy: { type: "string", values: POLICIES.map(({ name }) => name) },
    vcpus: { type: "string" },
    cpu: { type: "string", values: Object.keys(MODELS) },
    "no-record": { type: "boolean" },
    log: { type: "boolean" },
  },
  async run(args) {
    const { image, memory } = guestFrom(args, "gdb");
    checkImage(image, memory);
    const listen = listenAddress(args.strings.get("listen") ?? "1234");
    const architecture = architectureFrom(args);
    const output = new ConsoleWriter(process.stdout);
    const target = targetFrom(args, { image, memory, console: output.put });
    const stop = await withInterrupt((signal) =>
      serveGdb(target, {
        listen,
        signal,
        flush: () => output.flush(),
        onListening: (address) =>
          void process.stderr.write(`wasm-vmx: waiting for GDB on ${address}; in GDB: target remote ${address}\n`),
        ...(args.flags.has("log") ? { onPacket: logPacket } : {}),
        ...(architecture === undefined ? {} : { architecture }),
      }),
    );
    output.flush();
    if (stop === "interrupted") return ExitStatus.Interrupted;
    if (stop?.kind !== "end") return ExitStatus.Ok;
    return stop.status === undefined ? ExitStatus.Crash : stop.status & 0xff;
  },
};
