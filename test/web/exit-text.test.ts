// Exit qualifications in words. @sdm 3C tables "Exit Qualification for ..."
import { describe, expect, it } from "vitest";
import { exitText } from "../../web/vmx/exit-text.ts";

const base = { interruption: 0, guestPhysical: 0x5000n, rax: 0x40000000n, rcx: 0x140n };
const text = (reason: number, qualification: bigint, more: object = {}) =>
  exitText({ ...base, reason, qualification, ...more });

describe("exit qualifications", () => {
  it.each([
    // I/O: 2:0 size - 1, 3 IN, 4 string, 5 REP, 31:16 port
    [30, 0x03f8_0000n, "OUT to port 0x3f8, 1 byte"],
    [30, 0x0060_000bn, "IN from port 0x60, 4 bytes"],
    [30, 0x00e9_0031n, "REP OUTS to port 0xe9, 2 bytes"],
    // control registers: 3:0 which, 5:4 kind, 11:8 GPR
    [28, 0x0000n, "MOV CR0, rax"],
    [28, 0x0313n, "MOV rbx, CR3"],
    [28, 0x0020n, "CLTS"],
    [28, 0x000f_0030n, "LMSW 0xf"],
    // debug registers: 2:0 which, 4 direction, 11:8 GPR
    [29, 0x0107n, "MOV DR7, rcx"],
    [29, 0x0216n, "MOV rdx, DR6"],
    // EPT violation: 2:0 access, 5:3 permissions, 8:7 kind of address
    [48, 0x0182n, "write of guest-physical 0x5000, the EPT allows ---"],
    [48, 0x018cn, "fetch of guest-physical 0x5000, the EPT allows r--"],
    [48, 0x0081n, "read of guest-physical 0x5000, the EPT allows ---, in a page walk"],
    [9, 0x8000_0028n, "to TSS 0x28 by JMP"],
    [14, 0x7000n, "of 0x7000"],
    [10, 0n, "leaf 0x40000000, subleaf 0x140"],
    [32, 0n, "MSR 0x140"],
    [12, 0n, ""],
  ] as const)("reason %i, %i", (reason, qualification, wanted) => {
    expect(text(reason, qualification)).toBe(wanted);
  });

  it("name the event of an exception", () => {
    // interruption information: vector 7:0, type 10:8, valid 31
    expect(text(0, 0x1234n, { interruption: 0x8000_0b0e })).toBe("#PF at 0x1234");
    expect(text(0, 0n, { interruption: 0x8000_0306 })).toBe("#UD");
    expect(text(0, 0n, { interruption: 0x8000_0202 })).toBe("NMI");
    expect(text(0, 0n)).toBe("");
  });

  it("say nothing of an address that is not known", () => {
    expect(text(48, 0x0182n, { guestPhysical: undefined })).toBe("write, the EPT allows ---");
  });
});
