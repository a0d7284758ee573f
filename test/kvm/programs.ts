// The TypeScript side of fixtures/kvm/recorder.c: the same commands on wasm-vmx, the same lines.
import {
  KVM_CAP_SPLIT_IRQCHIP,
  KVM_PIT_SPEAKER_DUMMY,
  Kvm,
  KvmError,
  type KvmExit,
  type Regs,
  type Segment,
  type Vcpu,
  type Vm,
} from "../../src/kvm/index.ts";
import type { TraceSink } from "../../src/trace/index.ts";

const SLOT_BYTES = 0x20_0000n;
const TABLES = 0x1_0000;
const CODE = 0x1000;

export interface Program {
  readonly name: string;
  /** "irqchip" or "split", then "pit" or "pit-speaker": made before the vCPU. */
  readonly chips: readonly string[];
  readonly commands: readonly string[];
}

/** Programs of programs.txt in order. */
export function parsePrograms(text: string): Program[] {
  const programs: { name: string; chips: string[]; commands: string[] }[] = [];
  for (const line of text.split("\n").map((l) => l.trim())) {
    if (line === "" || line.startsWith("#")) continue;
    const [word, name = "", ...chips] = line.split(/\s+/);
    if (word === "program") programs.push({ name, chips, commands: [] });
    else programs.at(-1)!.commands.push(line);
  }
  return programs;
}

const hex = (value: bigint | number): string => value.toString(16);
const dump = (bytes: Uint8Array): string => Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
const unhex = (text = ""): Uint8Array => Uint8Array.from(text.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));

function segment(selector: number, type: number, db: number, l: number, big: boolean): Segment {
  const limit = big ? 0xffff_ffff : 0xffff;
  return { base: 0n, limit, selector, type, present: 1, dpl: 0, db, s: 1, l, g: big ? 1 : 0, avl: 0, unusable: 0 };
}

const PIC_FIELDS = [
  ...["last_irr", "irr", "imr", "isr", "priority_add", "irq_base", "read_reg_select", "poll", "special_mask"],
  ...["init_state", "auto_eoi", "rotate_on_auto_eoi", "special_fully_nested_mode", "init4", "elcr", "elcr_mask"],
];
const IOAPIC_FIELDS = ["base_address", "ioregsel", "id", "irr"];
const PIT_FIELDS = [
  ...["count", "count_latched", "status_latched", "status", "read_state", "write_state", "write_latch"],
  ...["rw_mode", "mode", "bcd", "gate"],
];

/** The kernel's name of a field as ours. */
const camel = (name: string): string => name.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());

function fieldsOf(struct: object, names: readonly string[]): string {
  const values = struct as Record<string, number | bigint>;
  return names.map((name) => ` ${name}=${hex(values[camel(name)]!)}`).join("");
}

function setField(struct: Record<string, unknown>, name: string, value: bigint): void {
  const field = camel(name);
  if (!(field in struct)) throw new Error(`no field ${name}`);
  struct[field] = typeof struct[field] === "bigint" ? value : Number(value);
}

/** One program's VM, with the lines it has said. */
class Runner {
  readonly lines: string[] = [];
  readonly #kvm = new Kvm({ kernel: "6.19" });
  readonly #vm: Vm = this.#kvm.createVm();
  #vcpu: Vcpu;
  readonly #first: Vcpu;
  #second: Vcpu | undefined;
  readonly #memory = new Map<number, bigint>();
  readonly #base = new Map<number, bigint>();
  readonly #regs: Regs;
  #reply: Uint8Array = new Uint8Array(8);
  #msrError = 0;

  constructor(chips: readonly string[], trace?: TraceSink) {
    this.#kvm.host.trace = trace;
    this.#region(0, 0, 0n, SLOT_BYTES, 0n);
    if (chips[0] === "irqchip") this.#vm.createIrqchip();
    if (chips[0] === "split") this.#vm.enableCap(KVM_CAP_SPLIT_IRQCHIP, [24]);
    if (chips[1] !== undefined) this.#vm.createPit2({ flags: chips[1] === "pit-speaker" ? KVM_PIT_SPEAKER_DUMMY : 0 });
    this.#vcpu = this.#first = this.#vm.createVcpu(0);
    this.#vcpu.setCpuid2(this.#kvm.getSupportedCpuid());
    this.#regs = this.#vcpu.getRegs();
    for (const name of Object.keys(this.#regs) as (keyof Regs)[]) this.#regs[name] = 0n;
    Object.assign(this.#regs, { rip: BigInt(CODE), rsp: 0x8000n, rflags: 2n });
  }

  #said(what: string, body: () => number | undefined): void {
    try {
      this.lines.push(`${what} ${body() ?? 0}`);
    } catch (error) {
      if (!(error instanceof KvmError)) throw error;
      this.lines.push(`${what} ${error.code}`);
    }
  }

  #region(id: number, flags: number, guestPhysAddr: bigint, memorySize: bigint, offset: bigint): void {
    const slot = id & 0xffff;
    if (slot < 8 && !this.#memory.has(slot)) this.#memory.set(slot, this.#vm.allocMemory(SLOT_BYTES));
    const userspaceAddr = this.#memory.get(slot < 8 ? slot : 0)! + offset;
    this.#vm.setUserMemoryRegion({ slot: id, flags, guestPhysAddr, memorySize, userspaceAddr });
    if (slot < 8) this.#base.set(slot, guestPhysAddr);
  }

  #at(gpa: bigint): bigint {
    for (const [slot, base] of this.#base) {
      if (gpa >= base && gpa < base + SLOT_BYTES) return this.#memory.get(slot)! + (gpa - base);
    }
    throw new Error(`no slot at ${hex(gpa)}`);
  }

  #poke(gpa: number | bigint, bytes: Uint8Array): void {
    this.#vm.writeMemory(this.#at(BigInt(gpa)), bytes);
  }

  #poke64(gpa: number, value: bigint): void {
    this.#poke(gpa, new Uint8Array(BigUint64Array.of(value).buffer));
  }

  #mode(mode: string): void {
    const real = mode === "real" || mode === "unreal";
    const long = mode === "long";
    const data = segment(real ? 0 : 0x10, 3, real ? 0 : 1, 0, !real);
    const s = this.#vcpu.getSregs();
    s.cs = segment(real ? 0 : 8, 11, real || long ? 0 : 1, long ? 1 : 0, !real);
    for (const name of ["ds", "es", "fs", "gs", "ss"] as const) s[name] = data;
    if (mode === "unreal") s.ds = segment(0, 3, 0, 0, true);
    s.cr0 = real ? 0x10n : 0x11n;
    s.gdt = { base: 0x600n, limit: 0x1f };
    s.idt = real ? { base: 0n, limit: 0x3ff } : { base: 0x800n, limit: 0x7ff };
    this.#poke64(0x608, long ? 0x00af_9b00_0000_ffffn : 0x00cf_9b00_0000_ffffn);
    this.#poke64(0x610, 0x00cf_9300_0000_ffffn);
    if (long) {
      this.#poke64(TABLES, BigInt(TABLES + 0x1003));
      for (let i = 0; i < 4; i++) this.#poke64(TABLES + 0x1000 + 8 * i, BigInt(TABLES + 0x2003 + i * 0x1000));
      for (let i = 0; i < 2048; i++) this.#poke64(TABLES + 0x2000 + 8 * i, (BigInt(i) << 21n) | 0x83n);
      Object.assign(s, { cr3: BigInt(TABLES), cr4: 0x20n, efer: 0x500n, cr0: 0x8000_0011n });
    }
    try {
      this.#vcpu.setSregs(s);
    } catch (error) {
      this.lines.push(`KVM_SET_SREGS ${(error as KvmError).code}`);
    }
  }

  /** One KVM_RUN; false when the program goes no further by itself. */
  #runOnce(): boolean {
    let exit: KvmExit;
    try {
      exit = this.#vcpu.run();
    } catch (error) {
      if (!(error instanceof KvmError)) throw error;
      this.lines.push(`error ${error.code} reason=${this.#vcpu.runPage.exitReason}`);
      return false;
    }
    this.lines.push(this.#describe(exit));
    switch (exit.reason) {
      case "io":
        if (exit.direction === "in") exit.data.set(exit.data.map((_, i) => this.#reply[i & 7]!));
        return true;
      case "mmio":
        if (!exit.isWrite) exit.data.set(this.#reply.subarray(0, exit.length));
        return true;
      case "x86Rdmsr":
      case "x86Wrmsr":
        exit.reply({ error: this.#msrError, data: new DataView(this.#reply.buffer).getBigUint64(0, true) });
        return true;
      default:
        return ["debug", "setTpr", "ioapicEoi"].includes(exit.reason);
    }
  }

  #describe(exit: KvmExit): string {
    const page = this.#vcpu.runPage;
    const now = (): Regs => this.#vcpu.getRegs();
    switch (exit.reason) {
      case "io": {
        const what = `io ${exit.direction} port=${hex(exit.port)} size=${exit.size} count=${exit.count}`;
        return exit.direction === "in" ? what : `${what} data=${dump(exit.data)}`;
      }
      case "mmio": {
        const { rip, rcx, rsp } = now();
        const where = `addr=${hex(exit.physAddr)} len=${exit.length}`;
        const registers = `rcx=${hex(rcx)} rsp=${hex(rsp)}`;
        if (exit.isWrite) return `mmio write ${where} data=${dump(exit.data)} ${registers}`;
        return `mmio read ${where} rip=${hex(rip)} ${registers}`;
      }
      case "debug":
        return `debug exception=${exit.exception} pc=${hex(exit.pc)} dr6=${hex(exit.dr6)} dr7=${hex(exit.dr7)}`;
      case "x86Rdmsr":
        return `rdmsr reason=${hex(exit.msrReason)} index=${hex(exit.index)}`;
      case "x86Wrmsr":
        return `wrmsr reason=${hex(exit.msrReason)} index=${hex(exit.index)} data=${hex(exit.data)}`;
      case "irqWindowOpen":
        return `irq window ready=${Number(page.readyForInterruptInjection)} if=${Number(page.ifFlag)}`;
      case "setTpr":
        return `set tpr cr8=${hex(page.cr8)}`;
      case "ioapicEoi":
        return `ioapic eoi vector=${hex(exit.vector)}`;
      case "internalError":
        return `internal error suberror=${exit.suberror}`;
      case "failEntry":
        return "fail entry";
      case "intr":
        return `error EINTR reason=${page.exitReason}`;
      default:
        return exit.reason;
    }
  }

  #dirtyPages(slot: number): string {
    const pages: string[] = [];
    this.#vm.getDirtyLog(slot).forEach((byte, i) => {
      for (let bit = 0; bit < 8; bit++) if ((byte >> bit) & 1) pages.push(` ${hex(8 * i + bit)}`);
    });
    return pages.join("");
  }

  #events(): string {
    const { exception: e, interrupt: i, nmi: n, flags } = this.#vcpu.getVcpuEvents();
    return (
      `events exception=${e.injected}.${e.pending} nr=${e.nr} error=${e.hasErrorCode}.${hex(e.errorCode)} ` +
      `interrupt=${i.injected} nr=${i.nr} soft=${i.soft} shadow=${i.shadow} ` +
      `nmi=${n.injected}.${n.pending}.${n.masked} flags=${hex(flags)}`
    );
  }

  #chip(id: number, pin: number): string {
    const state = this.#vm.getIrqchip(id);
    if (state.chipId === 2) {
      const { baseAddress, id: number, ioregsel, irr, redirtbl } = state.ioapic;
      return `ioapic base=${hex(baseAddress)} id=${hex(number)} select=${hex(ioregsel)} irr=${hex(irr)} pin${pin}=${hex(redirtbl[pin]!)}`;
    }
    const p = state.pic;
    return (
      `pic irr=${hex(p.irr)} imr=${hex(p.imr)} isr=${hex(p.isr)} base=${hex(p.irqBase)} lowest=${hex((p.priorityAdd + 7) & 7)} ` +
      `init=${p.initState} auto_eoi=${p.autoEoi} elcr=${hex(p.elcr)} elcr_mask=${hex(p.elcrMask)}`
    );
  }

  #pitState(channel: number): string {
    const { channels, flags } = this.#vm.getPit2();
    const { count, mode, rwMode, bcd, gate } = channels[channel]!;
    return `pit count=${hex(count)} mode=${mode} rw=${rwMode} bcd=${bcd} gate=${gate} flags=${hex(flags)}`;
  }

  #setChip(id: number, field: string, value: bigint): void {
    const state = this.#vm.getIrqchip(id);
    const at = state.chipId === 2 ? state.ioapic : state.pic;
    setField(at as unknown as Record<string, unknown>, field, value);
    this.#vm.setIrqchip(state);
  }

  #chipFields(id: number): string {
    const state = this.#vm.getIrqchip(id);
    if (state.chipId === 2) return `ioapicstate${fieldsOf(state.ioapic, IOAPIC_FIELDS)}`;
    return `picstate${fieldsOf(state.pic, PIC_FIELDS)}`;
  }

  #setPit(channel: number, words: readonly string[]): void {
    const state = this.#vm.getPit2();
    const at = state.channels[channel] as unknown as Record<string, unknown>;
    for (let i = 0; i < words.length; i += 2) setField(at, words[i]!, BigInt(words[i + 1]!));
    this.#vm.setPit2(state);
  }

  #sregs2(): string {
    const { cr0, cr3, cr4, efer, flags, pdptrs } = this.#vcpu.getSregs2();
    const controls = `cr0=${hex(cr0)} cr3=${hex(cr3)} cr4=${hex(cr4)} efer=${hex(efer)}`;
    return `sregs2 ${controls} flags=${hex(flags)} pdptrs=${pdptrs.map(hex).join(",")}`;
  }

  #lapicRegisters(offsets: readonly string[]): string {
    const view = new DataView(this.#vcpu.getLapic().buffer);
    return `lapic${offsets.map((offset) => ` ${offset}=${hex(view.getUint32(Number(offset), true))}`).join("")}`;
  }

  #setLapic(offset: number, value: number): void {
    const bytes = this.#vcpu.getLapic();
    new DataView(bytes.buffer).setUint32(offset, value, true);
    this.#vcpu.setLapic(bytes);
  }

  #setPin(pin: number, value: bigint): void {
    const state = this.#vm.getIrqchip(2);
    if (state.chipId !== 2) return;
    state.ioapic.redirtbl[pin] = value;
    this.#vm.setIrqchip(state);
  }

  #makeSecond(): Vcpu {
    const second = this.#vm.createVcpu(1);
    second.setCpuid2(this.#kvm.getSupportedCpuid());
    return second;
  }

  /** A line of its own, or the errno. */
  #says(what: string, body: () => string): void {
    try {
      this.lines.push(body());
    } catch (error) {
      if (!(error instanceof KvmError)) throw error;
      this.lines.push(`${what} ${error.code}`);
    }
  }

  command(line: string): void {
    const [word = "", ...words] = line.split(/\s+/);
    const [a = "", b = "", c = "", d = "", e = ""] = words;
    const n = (text: string): number => Number(text || 0);
    const n64 = (text: string): bigint => BigInt(text || 0);
    const vm = this.#vm;
    const vcpu = this.#vcpu;
    const commands: Record<string, () => void> = {
      mode: () => this.#mode(a),
      code: () => this.#poke(CODE, unhex(a)),
      poke: () => this.#poke(n64(a), unhex(b)),
      peek: () => void this.lines.push(`memory ${dump(vm.readMemory(this.#at(n64(a)), n(b)))}`),
      reg: () => {
        this.#regs[a as keyof Regs] = n64(b);
      },
      reply: () => {
        const bytes = unhex(a);
        this.#reply = new Uint8Array([...bytes, ...this.#reply.subarray(bytes.length)]);
      },
      error: () => {
        this.#msrError = n(a);
      },
      start: () => this.#said("regs", () => void vcpu.setRegs(this.#regs)),
      run: () => {
        for (let i = n(a) || 1; i > 0 && this.#runOnce(); i--);
      },
      show: () => {
        Object.assign(this.#regs, vcpu.getRegs());
        const values = a.split(",").map((name) => ` ${name}=${hex(this.#regs[name as keyof Regs])}`);
        this.lines.push(`regs${values.join("")}`);
      },
      slot: () => this.#said("slot", () => void this.#region(n(a), n(b), n64(c), n64(d), n64(e))),
      cap: () => this.#said("cap", () => void vm.enableCap(n(a), [n(b)])),
      msr: () => this.#said("set msr", () => vcpu.setMsrs([{ index: n(a), data: n64(b) }])),
      getmsr: () => {
        const [entry] = vcpu.getMsrs([n(a)]);
        this.lines.push(entry ? `msr ${hex(entry.data)}` : "msr refused");
      },
      filter: () => {
        const bitmap = new Uint8Array(0x600);
        bitmap.set(unhex(e));
        const ranges = b === "" ? [] : [{ flags: n(b), base: n(c), nmsrs: n(d), bitmap }];
        this.#said("filter", () => void vm.setMsrFilter({ flags: n(a), ranges }));
      },
      debug: () => {
        const debugreg = [n64(b), 0n, 0n, 0n, 0n, 0n, 0n, n64(c)];
        this.#said("debug", () => void vcpu.setGuestDebug({ control: n(a), debugreg }));
      },
      dirty: () => {
        try {
          this.lines.push(`dirty${this.#dirtyPages(n(a))}`);
        } catch (error) {
          this.lines.push(`dirty ${(error as KvmError).code}`);
        }
      },
      cleardirty: () => {
        const bitmap = new Uint8Array(Number(SLOT_BYTES) / 4096 / 8).fill(0xff);
        const log = { slot: n(a), firstPage: n(b), numPages: n(c), dirtyBitmap: bitmap };
        this.#said("cleardirty", () => void vm.clearDirtyLog(log));
      },
      interrupt: () => this.#said("interrupt", () => void vcpu.interrupt(n(a))),
      nmi: () => this.#said("nmi", () => void vcpu.nmi()),
      window: () => {
        vcpu.runPage.requestInterruptWindow = n(a) !== 0;
      },
      immediate: () => {
        vcpu.runPage.immediateExit = n(a) !== 0;
      },
      page: () => {
        const { readyForInterruptInjection: ready, ifFlag, cr8, apicBase } = vcpu.runPage;
        this.lines.push(`page ready=${Number(ready)} if=${Number(ifFlag)} cr8=${hex(cr8)} apic_base=${hex(apicBase)}`);
      },
      events: () => void this.lines.push(this.#events()),
      setexception: () => {
        const exception = { injected: 1, nr: n(b), hasErrorCode: n(c), pending: 0, errorCode: n(d) };
        this.#said("events", () => void vcpu.setVcpuEvents({ ...vcpu.getVcpuEvents(), flags: n(a), exception }));
      },
      mpstate: () => {
        if (a === "") this.lines.push(`mpstate ${vcpu.getMpState()}`);
        else this.#said("mpstate", () => void vcpu.setMpState(n(a)));
      },
      translate: () => {
        const { physicalAddress, valid, writeable, usermode } = vcpu.translateFull(n64(a));
        this.lines.push(`translate ${hex(physicalAddress)} valid=${valid} writeable=${writeable} usermode=${usermode}`);
      },
      debugregs: () => {
        const regs = vcpu.getDebugRegs();
        if (a !== "") {
          this.#said("set debugregs", () => void vcpu.setDebugRegs([n64(a), ...regs.slice(1, 4), n64(b), n64(c)]));
        }
        const [dr0, , , , dr6, dr7] = vcpu.getDebugRegs() as [bigint, bigint, bigint, bigint, bigint, bigint];
        this.lines.push(`debugregs ${hex(dr0)} dr6=${hex(dr6)} dr7=${hex(dr7)}`);
      },
      irqchip: () => this.#said("irqchip", () => void vm.createIrqchip()),
      pit: () => this.#said("pit", () => void vm.createPit2()),
      reinject: () => this.#said("reinject", () => void vm.reinjectControl({ pitReinject: n(a) !== 0 })),
      sleep: () => this.#kvm.host.passTime(n64(a) * 1_000_000n),
      line: () => this.#said("line", () => void vm.irqLine(n(a), n(b) !== 0)),
      linestatus: () => this.#said("linestatus", () => vm.irqLineStatus(n(a), n(b) !== 0)),
      msi: () => this.#said("msi", () => vm.signalMsi({ addressLo: n(a), data: n(b), flags: n(c) })),
      route: () => {
        const route = b === "msi" ? { msi: { addressLo: n(c), data: n(d) } } : { irqchip: n(b), pin: n(c) };
        this.#said("route", () => void vm.setGsiRouting([{ gsi: n(a), ...route }]));
      },
      chip: () => this.#says("chip", () => this.#chip(n(a), n(b))),
      picstate: () => this.#says("picstate", () => this.#chipFields(n(a))),
      setchip: () => this.#said("setchip", () => void this.#setChip(n(a), b, n64(c))),
      pitfull: () => this.#says("pitfull", () => `pit${fieldsOf(vm.getPit2().channels[n(a)]!, PIT_FIELDS)}`),
      pitlatch: () => this.#says("pitlatch", () => `pit${fieldsOf(vm.getPit2().channels[n(a)]!, ["latched_count"])}`),
      setpit: () => this.#said("setpit", () => void this.#setPit(n(a), words.slice(1))),
      setsregs: () =>
        this.#said("setsregs", () => {
          const control = { cr0: n64(a), cr3: n64(b), cr4: n64(c), efer: n64(d) };
          vcpu.setSregs({ ...vcpu.getSregs(), ...control });
          return undefined;
        }),
      setsregs2: () =>
        this.#said("setsregs2", () => {
          const pdptrs = [0n, 1n, 2n, 3n].map((i) => n64(e) + 0x1000n * i);
          const control = { flags: n(a), cr0: n64(b), cr3: n64(c), cr4: n64(d), efer: 0n, pdptrs };
          vcpu.setSregs2({ ...vcpu.getSregs2(), ...control });
          return undefined;
        }),
      sregs2: () => this.#says("sregs2", () => this.#sregs2()),
      setpin: () => this.#said("setpin", () => void this.#setPin(n(a), n64(b))),
      lapic: () => this.#says("lapic", () => this.#lapicRegisters(words)),
      setlapic: () => this.#said("setlapic", () => void this.#setLapic(n(a), n(b))),
      pitstate: () => this.#says("pitstate", () => this.#pitState(n(a))),
      second: () => {
        this.#second ??= this.#makeSecond();
        this.#vcpu = this.#second;
      },
      first: () => {
        this.#vcpu = this.#first;
      },
      apicbase: () => {
        const sregs = vcpu.getSregs();
        if (a === "") this.lines.push(`apicbase ${hex(sregs.apicBase)} cr8=${hex(sregs.cr8)}`);
        else this.#said("set apicbase", () => void vcpu.setSregs({ ...sregs, apicBase: n64(a) }));
      },
      cs: () => {
        const { cs } = vcpu.getSregs();
        this.lines.push(`cs selector=${hex(cs.selector)} base=${hex(cs.base)}`);
      },
      vcpu: () => this.#said("vcpu", () => void vm.createVcpu(n(a))),
      check: () => void this.lines.push(`check ${vm.checkExtension(n(a)) > 0 ? "yes" : "no"}`),
    };
    const run = commands[word];
    if (run === undefined) throw new Error(`unknown command ${word}`);
    run();
  }
}

/** What a program says on wasm-vmx. */
export function runProgram(program: Program, trace?: TraceSink): string[] {
  const runner = new Runner(program.chips, trace);
  for (const line of program.commands) runner.command(line);
  return runner.lines;
}
