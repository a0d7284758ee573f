// Every ioctl and capability of x86 has a method, a row, or a reason: fixtures/kvm/ioctls.csv and caps.csv are the kernel's
// lists (uapi/linux/kvm.h of 6.19, and what of it 5.0 had).
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { ABSENT_CAPABILITIES, CAPABILITIES, Kvm, KvmError, UNSUPPORTED_IOCTLS } from "../../src/kvm/index.ts";

const rows = (name: string): string[][] =>
  readFileSync(new URL(`../../fixtures/kvm/${name}`, import.meta.url), "utf8")
    .trim()
    .split("\n")
    .slice(1)
    .map((line) => line.split(","));

const kvm = new Kvm();
const vm = kvm.createVm();
const vcpu = vm.createVcpu(0);

/** Names that are not the ioctl's own in camelCase. */
const RENAMED: Readonly<Record<string, string>> = {
  getDebugregs: "getDebugRegs",
  setDebugregs: "setDebugRegs",
  x86SetMsrFilter: "setMsrFilter",
};

function methodOf(ioctl: string): string {
  const words = ioctl.replace(/^KVM_/, "").toLowerCase().split("_");
  const name = words.map((word, i) => (i === 0 ? word : word[0]!.toUpperCase() + word.slice(1))).join("");
  return RENAMED[name] ?? name;
}

describe("ioctls", () => {
  test.each(rows("ioctls.csv"))("%s", (name, _number, fd, smallVmm) => {
    const method = methodOf(name!);
    const owners = { system: kvm, vm, vcpu, "system+vm": vm, "vcpu+vm": vcpu, "vm+vcpu": vm, "system+vcpu": kvm };
    const owner = owners[fd as keyof typeof owners] as object | undefined;
    const has = owner !== undefined && method in owner;
    const reason = UNSUPPORTED_IOCTLS[name!];
    if (reason === undefined) expect(has, `${fd} ${method}`).toBe(true);
    else {
      expect(reason.length).toBeGreaterThan(10);
      // what a small VMM may call says so by itself
      if (smallVmm === "yes") expect(has, `${fd} ${method}`).toBe(true);
      if (!has) return;
      const call = (owner as Record<string, () => unknown>)[method]!.bind(owner);
      expect(call).toThrow(KvmError);
      expect(call).toThrow(`${name}: ENOTTY: unsupported: ${reason}`);
    }
  });
});

describe("capabilities", () => {
  const names = new Map(rows("caps.csv").map(([number, name]) => [Number(number), name]));

  test.each(CAPABILITIES.map(({ number, name }) => [name, number] as const))(
    "%s is the kernel's number",
    (name, number) => {
      expect(names.get(number)).toBe(name);
    },
  );

  test.each(ABSENT_CAPABILITIES.map((row) => [row.name, row] as const))("%s is denied with its reason", (name, row) => {
    expect(names.get(row.number)).toBe(name);
    expect([kvm.checkExtension(row.number), vm.checkExtension(row.number)]).toEqual([0, 0]);
    expect(row.why.length).toBeGreaterThan(10);
  });

  test("no row is both", () => {
    const both = CAPABILITIES.filter(({ number }) => ABSENT_CAPABILITIES.some((row) => row.number === number));
    expect(both).toEqual([]);
  });

  test("nothing that Linux 5.0 did not have is affirmed under its rules", () => {
    const old = new Kvm({ kernel: "5.0" });
    const later = rows("caps.csv").filter(([, , in50]) => in50 === "no");
    expect(later.map(([number]) => old.checkExtension(Number(number)))).toEqual(later.map(() => 0));
  });
});
