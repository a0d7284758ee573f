// The playground's way back: from a keyframe or from the start, the same state as a run that never went further.
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { Debugger } from "../../web/session/debugger.ts";
import type { MachineSettings, MachineState, Program } from "../../web/session/protocol.ts";
import { generator } from "../jit/lockstep.ts";

const guest = (name: string): Uint8Array =>
  new Uint8Array(readFileSync(new URL(`../../fixtures/guests/bin/${name}`, import.meta.url)));
const settings = (under: MachineSettings["under"]): MachineSettings => ({
  under,
  policy: "upstream",
  kernel: "6.19",
  hostValue: 0,
  cost: "skylake-sp",
});

class Bench {
  state!: MachineState;
  readonly debugger: Debugger;
  #console = "";

  constructor(program: Program, under: MachineSettings["under"]) {
    this.debugger = new Debugger((state) => {
      if (state.consoleFrom === 0) this.#console = "";
      this.#console += state.console;
      this.state = state;
    });
    this.debugger.load(program, settings(under));
  }

  /** Everything that the page shows of the guest. */
  get shown() {
    const { count, rip, general, system, rflags, memory, vmx, codeMode, cpl } = this.state;
    return { count, rip, general, system, rflags, memory, codeMode, cpl, exits: vmx?.exits, console: this.#console };
  }
}

/** l: mov dx, 3fdh; in al, dx; test al, 1; jz m; mov dx, 3f8h; in al, dx; out 0e9h, al; inc ebx; m: inc ecx; jmp l */
const ECHO = Uint8Array.from(
  "66ba fd03 ec a801 7409 66ba f803 ec e6e9 ffc3 ffc1 ebea".replaceAll(" ", "").match(/../g)!,
  (byte) => Number.parseInt(byte, 16),
);

describe.each(["bare", "kvm"] as const)("back, %s", (under) => {
  it("shows what a run to that instruction shows", async () => {
    const program: Program =
      under === "bare"
        ? { name: "guest", bytes: guest("hypervisor.bin"), mode: "long" }
        : { name: "guest", bytes: guest("cpuid-heavy.bin"), mode: "long" };
    const bench = new Bench(program, under);
    await bench.debugger.run();
    expect(bench.state.status).toBe("ended");
    const end = bench.shown;
    const random = generator(7);
    const anywhere = Array.from({ length: under === "bare" ? 4 : 1 }, () => random(end.count));
    const targets = [end.count - 1, ...anywhere, 1, 0];
    for (const target of targets) {
      await bench.debugger.goTo(target);
      const fresh = new Bench(program, under);
      await fresh.debugger.goTo(target);
      expect(bench.shown).toEqual(fresh.shown);
      expect(bench.shown.count).toBe(target);
    }
    await bench.debugger.run();
    expect(bench.shown).toEqual(end);
  });

  it("gives input again at the same instruction", async () => {
    // every port access of a guest of KVM is an exit
    const scale = under === "bare" ? 1 : 50;
    const play = async (bench: Bench) => {
      await bench.debugger.goTo(450_000 / scale);
      bench.debugger.input("ab");
      await bench.debugger.goTo(900_000 / scale);
      bench.debugger.input("c");
      await bench.debugger.goTo(1_000_000 / scale);
    };
    const program: Program = { name: "echo", bytes: ECHO, mode: "long" };
    const bench = new Bench(program, under);
    await play(bench);
    const end = bench.shown;
    expect(end.console).toBe("abc");
    await bench.debugger.back(200_000 / scale);
    expect(bench.shown.console).toBe("ab");
    await bench.debugger.back(500_000 / scale);
    expect(bench.shown.console).toBe("");
    await bench.debugger.goTo(1_000_000 / scale);
    expect(bench.shown).toEqual(end);
    // another input in the past makes another future
    await bench.debugger.goTo(600_000 / scale);
    bench.debugger.input("x");
    await bench.debugger.goTo(1_000_000 / scale);
    expect(bench.shown.console).toBe("abx");
  });

  it("takes steps back that come while one is on its way", async () => {
    // again: inc eax; jmp again
    const bench = new Bench({ name: "spin", bytes: Uint8Array.of(0xff, 0xc0, 0xeb, 0xfc), mode: "long" }, under);
    await bench.debugger.goTo(400_000);
    await Promise.all([bench.debugger.back(1), bench.debugger.back(1), bench.debugger.back(1)]);
    expect(bench.state).toMatchObject({ status: "paused", count: 399_997 });
  });

  it("runs at full speed to a breakpoint, and goes on from it", async () => {
    // 100000: mov ecx, 3000000; l: dec ecx; jnz l; nop; jmp $-1
    const code = Uint8Array.of(0xb9, 0xc0, 0xc6, 0x2d, 0, 0xff, 0xc9, 0x75, 0xfc, 0x90, 0xeb, 0xfd);
    const bench = new Bench({ name: "loop", bytes: code, mode: "long" }, under);
    bench.debugger.setBreakpoints([0x100009]);
    await bench.debugger.run();
    expect(bench.state).toMatchObject({ count: 6_000_001, rip: 0x100009, reason: "breakpoint at 0x100009" });
    await bench.debugger.run();
    expect(bench.state).toMatchObject({ count: 6_000_003, rip: 0x100009 });
    await bench.debugger.back(1);
    expect(bench.state).toMatchObject({ count: 6_000_002, rip: 0x10000a });
  });
});
