// Options for guests that a boot loader starts: command line, modules, the machine's devices.
import { basename } from "node:path";
import type { BootModule, BootOptions, GuestImage } from "../machine/index.ts";
import { type OptionSpec, type ParsedArgs, suggestion, UsageError } from "./args.ts";
import { readFileOf } from "./guestFile.ts";

export const DEVICE_PROFILES = ["basic", "pc"] as const;
export type DeviceProfile = (typeof DEVICE_PROFILES)[number];

export const BOOT_OPTIONS = {
  append: { type: "string" },
  module: { type: "string", file: true },
  devices: { type: "string", values: DEVICE_PROFILES },
} as const satisfies Record<string, OptionSpec>;

export const BOOT_OPTIONS_HELP = `\
  --append TEXT      command line of a Multiboot or PVH kernel (Multiboot: after
                     the file's name)
  --module FILE[:TEXT]
                     a boot module with its own command line; may be repeated
  --devices SET      basic: console, serial output, exit port; pc: interrupt
                     controllers, timers, clock, serial port, APICs, ACPI tables
                     (docs/machine.md). Default: pc for Multiboot and PVH
                     kernels, else basic; under --vmx always basic`;

function moduleOf(argument: string): BootModule {
  const colon = argument.indexOf(":");
  const file = colon < 0 ? argument : argument.slice(0, colon);
  const text = colon < 0 ? "" : ` ${argument.slice(colon + 1)}`;
  return { data: readFileOf("module", file), commandLine: `${basename(file)}${text}` };
}

export interface Boot {
  readonly boot: BootOptions;
  readonly devices: DeviceProfile;
}

export function bootFrom(args: ParsedArgs, path: string, image: GuestImage): Boot {
  const devices = args.strings.get("devices") ?? (image.boot ? "pc" : "basic");
  if (!DEVICE_PROFILES.includes(devices as DeviceProfile)) {
    throw new UsageError(
      `unknown device set "${devices}": ${DEVICE_PROFILES.join(", ")}${suggestion(devices, DEVICE_PROFILES)}`,
    );
  }
  const append = args.strings.get("append");
  const modules = (args.lists.get("module") ?? []).map(moduleOf);
  if (image.boot === undefined) {
    if (append !== undefined || modules.length > 0) {
      throw new UsageError(
        `--append and --module are for Multiboot and PVH kernels: ${path} has neither a Multiboot header nor a PVH note`,
      );
    }
    return { boot: {}, devices: devices as DeviceProfile };
  }
  const words = [...(image.boot.protocol === "multiboot" ? [basename(path)] : []), ...(append ? [append] : [])];
  return { boot: { commandLine: words.join(" "), modules }, devices: devices as DeviceProfile };
}
