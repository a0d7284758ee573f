// System instructions that generated code completes itself while nothing about them is special; else the interpreter does.
import { ENTRY_START } from "../abi/generator";
import {
  CPUID_ANSWER,
  CPUID_ANSWER_MASK,
  CPUID_ANSWERS,
  MSR_PLACE,
  MSR_PLACE_MASK,
  MSR_READS,
  MSR_WRITES,
} from "../abi/layout";
import { R_INDEX, R_SIZE } from "../abi/record";
import {
  CPL,
  EFLAGS_REST,
  HOOKS,
  HookBit,
  INTERRUPTIBILITY,
  MODE,
  ModeBit,
  MSR_MISC_FEATURES_ENABLES,
  SHADOW_COUNT,
  VMX_STATE,
  VmxBit,
} from "../abi/state";
import {
  BLOCK_MOV_SS,
  BLOCK_STI,
  FLAG_AC,
  FLAG_DF,
  FLAG_ID,
  FLAG_IF,
  FLAG_IOPL,
  FLAG_NT,
  FLAG_TF,
  MISC_CPUID_FAULTING,
} from "../abi/x86";
import { callInterpreter } from "./calls";
import { blockCount, get32, set32 } from "./context";
import {
  get,
  I32_AND,
  I32_EQ,
  I32_EQZ,
  I32_LOAD,
  I32_MUL,
  I32_OR,
  I32_STORE,
  I32_SUB,
  I32_WRAP,
  I32_XOR,
  I64_ADD,
  I64_EXTEND_U,
  I64_LOAD,
  I64_STORE,
  i32c,
  mem,
  op,
  tee,
  W_ELSE,
} from "./emit";
import { setImage } from "./flags";
import { KIND_CLI, KIND_CPUID, KIND_INVLPG, KIND_POPF, KIND_RDMSR, KIND_STI, KIND_WRMSR } from "./kinds.generated";
import { close, openIf } from "./labels";
import { L_COUNT, L_HOST, L_T1 } from "./locals";
import { moveStack, readStackTop } from "./stack";

const RAX: u32 = 0;
const RCX: u32 = 8;
const RDX: u32 = 16;
const RBX: u32 = 24;

/** Pushes whether a word of the state has one of these bits. */
function pushBits(address: u32, bits: u32): void {
  i32c(0);
  mem(I32_LOAD, address);
  i32c(bits);
  op(I32_AND);
}

/** CPUID from the answers the core keeps, else by the interpreter. */
function cpuid(rec: usize): void {
  pushBits(HOOKS, HookBit.Cpuid);
  pushBits(MSR_MISC_FEATURES_ENABLES, MISC_CPUID_FAULTING);
  op(I32_OR);
  op(I32_EQZ);
  get32(RAX);
  i32c(CPUID_ANSWER_MASK);
  op(I32_AND);
  i32c(CPUID_ANSWER);
  op(I32_MUL);
  tee(L_HOST);
  mem(I32_LOAD, CPUID_ANSWERS);
  get32(RAX);
  op(I32_EQ);
  op(I32_AND);
  get(L_HOST);
  mem(I32_LOAD, CPUID_ANSWERS + 4);
  get32(RCX);
  op(I32_EQ);
  op(I32_AND);
  openIf();
  for (let r: u32 = 0; r < 4; r++) {
    get(L_HOST);
    mem(I32_LOAD, CPUID_ANSWERS + 8 + (r << 2));
    set32(r == 0 ? RAX : r == 1 ? RBX : r == 2 ? RCX : RDX);
  }
  op(W_ELSE);
  callInterpreter(rec, rec);
  close();
}

/** Pushes whether the MSR of ECX has a place in the table, at CPL 0 in root operation; L_HOST: its entry. */
function pushPlaced(table: u32, hook: u32): void {
  get32(RCX);
  i32c(MSR_PLACE_MASK);
  op(I32_AND);
  i32c(MSR_PLACE);
  op(I32_MUL);
  tee(L_HOST);
  mem(I32_LOAD, table);
  get32(RCX);
  op(I32_XOR);
  i32c(0);
  mem(I32_LOAD, CPL);
  op(I32_OR);
  pushBits(HOOKS, hook);
  op(I32_OR);
  pushBits(VMX_STATE, VmxBit.NonRoot);
  op(I32_OR);
}

function rdmsr(rec: usize): void {
  pushPlaced(MSR_READS, HookBit.Rdmsr);
  op(I32_EQZ);
  openIf();
  get(L_HOST);
  mem(I32_LOAD, MSR_READS + 4);
  tee(L_HOST);
  mem(I32_LOAD, 0);
  set32(RAX);
  get(L_HOST);
  mem(I32_LOAD, 4);
  set32(RDX);
  op(W_ELSE);
  callInterpreter(rec, rec);
  close();
}

/** Pushes the bits of a half of the value that the MSR may not have. */
function pushForbidden(register: u32, half: u32): void {
  get32(register);
  get(L_HOST);
  mem(I32_LOAD, MSR_WRITES + 8 + half);
  i32c(-1);
  op(I32_XOR);
  op(I32_AND);
}

function wrmsr(rec: usize): void {
  pushPlaced(MSR_WRITES, HookBit.Wrmsr);
  pushForbidden(RAX, 0);
  op(I32_OR);
  pushForbidden(RDX, 4);
  op(I32_OR);
  op(I32_EQZ);
  openIf();
  get(L_HOST);
  mem(I32_LOAD, MSR_WRITES + 4);
  tee(L_HOST);
  get32(RAX);
  mem(I32_STORE, 0);
  get(L_HOST);
  get32(RDX);
  mem(I32_STORE, 4);
  op(W_ELSE);
  callInterpreter(rec, rec);
  close();
}

/** At CPL 0. Nothing waits while a region runs, so STI lets nothing in; but its shadow can be seen at the next instruction. */
function interruptFlag(rec: usize, set: bool): void {
  i32c(0);
  mem(I32_LOAD, CPL);
  op(I32_EQZ);
  openIf();
  if (set) {
    pushBits(EFLAGS_REST, FLAG_IF);
    op(I32_EQZ);
    openIf();
    i32c(0);
    pushBits(INTERRUPTIBILITY, ~(BLOCK_STI | BLOCK_MOV_SS));
    i32c(BLOCK_STI);
    op(I32_OR);
    mem(I32_STORE, INTERRUPTIBILITY);
    i32c(0);
    i32c(0);
    mem(I64_LOAD, ENTRY_START);
    get(L_COUNT);
    i32c(blockCount - load<u8>(rec, R_INDEX) - 1);
    op(I32_SUB);
    op(I64_EXTEND_U);
    op(I64_ADD);
    mem(I64_STORE, SHADOW_COUNT);
  }
  i32c(0);
  i32c(0);
  mem(I32_LOAD, EFLAGS_REST);
  i32c(set ? FLAG_IF : ~FLAG_IF);
  op(set ? I32_OR : I32_AND);
  mem(I32_STORE, EFLAGS_REST);
  if (set) close();
  op(W_ELSE);
  callInterpreter(rec, rec);
  close();
}

/** POPF, unless it comes to single steps, alignment checks, IOPL or, outside of CPL 0, IF. False: nothing was emitted. */
function popFlags(rec: usize): bool {
  const mode = load<u32>(MODE);
  if (mode & ModeBit.Vm86) return false;
  const size = u32(load<u8>(rec, R_SIZE));
  const user = (mode & ModeBit.User) != 0;
  readStackTop(size);
  if (size == 8) op(I32_WRAP);
  tee(L_T1);
  i32c(0);
  mem(I32_LOAD, EFLAGS_REST);
  op(I32_XOR);
  i32c(FLAG_TF | (user ? FLAG_IF : FLAG_IOPL) | (size == 2 ? 0 : FLAG_AC));
  op(I32_AND);
  if (!user) {
    i32c(0);
    mem(I32_LOAD, CPL);
    op(I32_OR);
  }
  op(I32_EQZ);
  openIf();
  const changes: i32 = FLAG_DF | FLAG_NT | (user ? 0 : FLAG_IF) | (size == 2 ? 0 : FLAG_ID);
  i32c(0);
  get(L_T1);
  i32c(changes);
  op(I32_AND);
  pushBits(EFLAGS_REST, ~changes);
  op(I32_OR);
  mem(I32_STORE, EFLAGS_REST);
  setImage(L_T1);
  moveStack(size);
  op(W_ELSE);
  callInterpreter(rec, rec);
  close();
  return true;
}

/** At CPL 0 in root operation it does nothing: cached translations never outlive the tables they came from. */
function invlpg(rec: usize): void {
  i32c(0);
  mem(I32_LOAD, CPL);
  pushBits(VMX_STATE, VmxBit.NonRoot);
  op(I32_OR);
  openIf();
  callInterpreter(rec, rec);
  close();
}

/** An instruction that ends its block and does not branch. False: nothing was emitted. */
export function answer(rec: usize, kind: u32): bool {
  if (kind == KIND_CPUID) cpuid(rec);
  else if (kind == KIND_RDMSR) rdmsr(rec);
  else if (kind == KIND_WRMSR) wrmsr(rec);
  else if (kind == KIND_CLI || kind == KIND_STI) interruptFlag(rec, kind == KIND_STI);
  else if (kind == KIND_INVLPG) invlpg(rec);
  else if (kind == KIND_POPF) return popFlags(rec);
  else return false;
  return true;
}
