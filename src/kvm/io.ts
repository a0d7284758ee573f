import { CR2 } from "../../assembly/abi/state.ts";
import { kvmInjectGp, kvmQueueException, PF_VECTOR, vmxGetCpl } from "./events.ts";
import { kernelPio } from "./kernel-io.ts";
import { kvmReadGuestVirt, kvmWriteGuestVirt, type Walk } from "./mmu.ts";
import { KVM_X86_QUIRK_OUT_7E_INC_RIP } from "./quirks.ts";
import { kvmSkipEmulatedInstruction } from "./skip.ts";
import type { VcpuVmx } from "./vcpu.ts";
import { Field } from "./vmcs-fields.ts";

const RAX = 0;
const RCX = 1;
const RSI = 6;
const RDI = 7;
const X86_EFLAGS_DF = 0x400n;
/** Bytes of one KVM_EXIT_IO: the pio page of the emulator's read-ahead buffer. */
const READ_AHEAD = 1024;

/** Exit qualification: 2:0 size - 1, 3 IN, 4 string, 5 REP, 6 immediate, 31:16 port. @sdm 3C table 27-5 */
interface IoExit {
  readonly size: number;
  readonly input: boolean;
  readonly string: boolean;
  readonly rep: boolean;
  readonly port: number;
}

function decode(qualification: number): IoExit {
  return {
    size: (qualification & 7) + 1,
    input: (qualification & 8) !== 0,
    string: (qualification & 16) !== 0,
    rep: (qualification & 32) !== 0,
    port: qualification >>> 16,
  };
}

function toBytes(value: bigint, size: number): Uint8Array {
  return Uint8Array.from({ length: size }, (_, i) => Number((value >> BigInt(8 * i)) & 0xffn));
}

function fromBytes(data: Uint8Array, size: number): bigint {
  let value = 0n;
  for (let i = size - 1; i >= 0; i--) value = (value << 8n) | BigInt(data[i] ?? 0);
  return value;
}

/** IN to AL, AX or EAX; EAX zero-extends. @kvm complete_fast_pio_in */
function writeAccumulator(vcpu: VcpuVmx, data: Uint8Array, size: number): void {
  const value = fromBytes(data, size);
  const { core } = vcpu.host;
  if (size === 4) core.setGpr(RAX, value);
  else {
    const mask = (1n << BigInt(8 * size)) - 1n;
    core.setGpr(RAX, (core.gpr(RAX) & ~mask) | value);
  }
}

type Complete = (data: Uint8Array) => boolean;

/** An OUT before it is carried out, an IN when its data are there. @kvm emulator_pio_in, emulator_pio_out */
function tracePio(vcpu: VcpuVmx, io: IoExit, count: number, data: Uint8Array): void {
  const { port, size } = io;
  const value = Number(fromBytes(data, size));
  vcpu.host.trace?.({ name: "kvm_pio", write: !io.input, port, size, count, value });
}

/** Ports of devices in the kernel complete here. */
function exitToUser(vcpu: VcpuVmx, io: IoExit, initial: Uint8Array, count: number, finish: Complete): boolean {
  const complete: Complete = (data) => {
    if (io.input) tracePio(vcpu, io, count, data);
    return finish(data);
  };
  if (!io.input) tracePio(vcpu, io, count, initial);
  if (kernelPio(vcpu, io.port, io.input, io.size, initial)) return complete(initial);
  const direction = io.input ? "in" : "out";
  const data = vcpu.run.pioData(initial);
  vcpu.userExit = { reason: "io", direction, port: io.port, size: io.size, count, data };
  vcpu.arch.completeUserspaceIo = () => complete(data);
  return false;
}

/**
 * One IN or OUT of a register. 5.0 advances RIP before the exit, later kernels at the completion, but for port 0x7E.
 * @kvm handle_io, kvm_fast_pio
 */
export function handleIo(vcpu: VcpuVmx): boolean {
  vcpu.host.ledger.count("io_exits");
  const io = decode(vcpu.vmread32(Field.EXIT_QUALIFICATION));
  if (io.string) return emulateStringIo(vcpu, io);
  const data = io.input ? new Uint8Array(io.size) : toBytes(vcpu.gpr(RAX), io.size);
  const { rules, disabledQuirks } = vcpu.vm;
  const oddPort = !io.input && io.port === 0x7e && !(disabledQuirks & KVM_X86_QUIRK_OUT_7E_INC_RIP);
  const first = rules.pioSkipsFirst || oddPort;
  if (first) kvmSkipEmulatedInstruction(vcpu);
  return exitToUser(vcpu, io, data, 1, (reply) => {
    if (io.input) writeAccumulator(vcpu, reply, io.size);
    return first || kvmSkipEmulatedInstruction(vcpu);
  });
}

/** Instruction information of INS and OUTS: address size 9:7 (0 16, 1 32, 2 64). @sdm 3C table 27-8 */
function addressMask(vcpu: VcpuVmx): bigint {
  const size = (vcpu.vmread32(Field.VMX_INSTRUCTION_INFO) >> 7) & 7;
  return size === 0 ? 0xffffn : size === 1 ? 0xffff_ffffn : 0xffff_ffff_ffff_ffffn;
}

/** Register plus delta within the address size; a 32-bit one zero-extends, a 16-bit one keeps the rest. */
function advance(vcpu: VcpuVmx, register: number, delta: bigint, mask: bigint): void {
  const old = vcpu.gpr(register);
  const value = (old + delta) & mask;
  vcpu.setGpr(register, mask === 0xffffn ? (old & ~mask) | value : value);
}

function pageFault(vcpu: VcpuVmx, linear: bigint, walk: Walk): true {
  if ("gpa" in walk) kvmInjectGp(vcpu, 0);
  else {
    vcpu.host.core.write64(CR2, linear);
    kvmQueueException(vcpu, PF_VECTOR, walk.errorCode);
  }
  return true;
}

/**
 * INS and OUTS, which KVM emulates: OUTS one item an exit, REP INS read ahead in one exit up to 1 KiB inside a page.
 * @kvm kvm_emulate_instruction, pio_in_emulated, em_out
 */
function emulateStringIo(vcpu: VcpuVmx, io: IoExit): boolean {
  vcpu.host.ledger.count("insn_emulation");
  const mask = addressMask(vcpu);
  const counter = vcpu.gpr(RCX) & mask;
  if (io.rep && counter === 0n) return kvmSkipEmulatedInstruction(vcpu);
  const linear = vcpu.vmread(Field.GUEST_LINEAR_ADDRESS);
  const down = (vcpu.vmread(Field.GUEST_RFLAGS) & X86_EFLAGS_DF) !== 0n;
  const access = { write: io.input, user: vmxGetCpl(vcpu) === 3 };
  const finish = (count: number): boolean => {
    const step = BigInt(io.size * count) * (down ? -1n : 1n);
    advance(vcpu, io.input ? RDI : RSI, step, mask);
    if (io.rep) advance(vcpu, RCX, -BigInt(count), mask);
    return io.rep && counter !== BigInt(count) ? true : kvmSkipEmulatedInstruction(vcpu);
  };
  if (!io.input) {
    const data = kvmReadGuestVirt(vcpu, linear, io.size, access);
    if (!(data instanceof Uint8Array)) return pageFault(vcpu, linear, data);
    return exitToUser(vcpu, io, data, 1, () => finish(1));
  }
  const probe = kvmReadGuestVirt(vcpu, linear, io.size, access);
  if (!(probe instanceof Uint8Array)) return pageFault(vcpu, linear, probe);
  const inPage = down ? 1 : Math.floor((4096 - Number(linear & 0xfffn)) / io.size);
  const wanted = io.rep ? Number(counter < 4096n ? counter : 4096n) : 1;
  const count = Math.max(1, Math.min(inPage, Math.floor(READ_AHEAD / io.size), wanted));
  return exitToUser(vcpu, io, new Uint8Array(io.size * count), count, (data) => {
    const fault = kvmWriteGuestVirt(vcpu, linear, data, access);
    return fault === undefined ? finish(count) : pageFault(vcpu, linear, fault);
  });
}
